"""Who is there, and what the report says first."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import QUEUES
from billing.coordination.queue import NOT_REACHABLE, TAKES_NOTHING
from billing.database import Database
from billing.models import processes
from billing.operators import presence
from billing.operators.deliveries import read_deliveries
from billing.operators.presence import GONE_AFTER, KEPT, Heartbeat, Process, list_processes
from billing.operators.worst import Trouble, troubles
from billing.process import marks
from tests.support.builders import NOON


def there(database: Database) -> list[Process]:
    with database.read() as connection:
        return list_processes(connection)


def age(database: Database, by: timedelta) -> None:
    """Let every row be older."""
    with database.write() as connection:
        for row in connection.execute(sa.select(processes.c.id, processes.c.seen_at)).all():
            own = sa.update(processes).where(processes.c.id == row.id)
            connection.execute(own.values(seen_at=row.seen_at - by))


def test_process_is_there_until_it_says_nothing_for_a_while(database: Database) -> None:
    """OPS-145"""
    heartbeat = Heartbeat(database, kind="worker", name="checkout", queues=["checkout", "webhooks"], threads=16)
    heartbeat.beat()
    (seen,) = there(database)
    assert (seen.kind, seen.name, seen.queues, seen.threads) == ("worker", "checkout", ("checkout", "webhooks"), 16)
    assert seen.is_there
    age(database, GONE_AFTER)
    assert [one.is_there for one in there(database)] == [False]
    heartbeat.beat()
    assert [one.is_there for one in there(database)] == [True], "one row for each process"


def test_row_of_a_process_that_died_long_ago_goes_when_another_starts(database: Database) -> None:
    Heartbeat(database, kind="beat").beat()
    age(database, KEPT + timedelta(minutes=1))
    Heartbeat(database, kind="web").beat()
    assert [one.kind for one in there(database)] == ["web"]


def test_process_that_ends_in_order_leaves_no_row(database: Database) -> None:
    written = threading.Event()

    class Seen(Heartbeat):
        def beat(self) -> None:
            super().beat()
            written.set()

    heartbeat = Seen(database, kind="worker", queues=QUEUES).start()
    assert written.wait(30)
    heartbeat.stop()
    assert there(database) == []


def test_heartbeat_outlives_a_ledger_that_fails(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-146"""
    monkeypatch.setattr(presence, "EVERY_SECONDS", 0.01)
    tries, again = [], threading.Event()

    class Failing(Heartbeat):
        def beat(self) -> None:
            tries.append(1)
            if len(tries) < 3:
                raise RuntimeError("no such table")
            again.set()

    heartbeat = Failing(database, kind="worker").start()
    assert again.wait(30)
    heartbeat.stop()


WELL: dict[str, Any] = {"at": NOON, "checkouts": {}, "events": {}, "messages": {}, "incidents": {}}
EVERYBODY = [
    Process(kind, kind, queues, 1, "0.1.0", "here", 1, NOON, 1.0)
    for kind, queues in (("web", ()), ("worker", QUEUES), ("beat", ()))
]


def without(kind: str) -> list[Process]:
    return [one for one in EVERYBODY if one.kind != kind]


def waits(minutes: float) -> dict[str, Any]:
    return {"oldest_pending_at": NOON - timedelta(minutes=minutes)}


@pytest.mark.parametrize(
    ("summary", "processes_there", "first"),
    [
        (WELL, EVERYBODY, None),
        (WELL, without("worker"), "onelane worker --queues checkout"),
        (WELL, without("beat"), "onelane beat"),
        (WELL, without("web"), "onelane web"),
        (WELL | {"checkouts": waits(2)}, EVERYBODY, "onelane locks list"),
        (WELL | {"checkouts": waits(0.5)}, EVERYBODY, None),
        (WELL | {"events": waits(6)}, EVERYBODY, "onelane events list --status pending"),
        (WELL | {"events": waits(4)}, EVERYBODY, None),
        (WELL | {"events": {"dead": 2}}, EVERYBODY, "onelane dead list"),
        (WELL | {"messages": waits(11)}, EVERYBODY, "onelane notifications test"),
        (WELL | {"messages": {"dead": 1}}, EVERYBODY, "onelane notifications recover --since 7d --dry-run"),
        (WELL | {"incidents": {"duplicate_subscriptions": 1}}, EVERYBODY, "onelane incidents list"),
        # Without a web nobody buys at all; a missing worker explains what waits. They come first.
        (WELL, [], "onelane web"),
        (WELL | {"checkouts": waits(9)}, without("worker"), "onelane worker --queues checkout"),
    ],
)
def test_worst_trouble_comes_first_with_what_mends_it(
    summary: dict[str, Any], processes_there: list[Process], first: str | None
) -> None:
    """OPS-147"""
    found = troubles(summary, processes_there)
    assert (found[0].command if found else None) == first


def test_processes_are_not_missed_while_none_can_say_that_it_is_there() -> None:
    """OPS-147: the cause comes alone."""
    assert [trouble.subject for trouble in troubles(WELL | {"ledger": "It is read only."}, [])] == ["ledger"]


def test_process_that_says_nothing_any_more_counts_as_missing() -> None:
    gone = [Process(one.kind, one.name, one.queues, 1, "0.1.0", "here", 1, NOON, 60.0) for one in EVERYBODY]
    assert len(troubles(WELL, gone)) == len(QUEUES) + 2
    assert all(isinstance(one, Trouble) for one in troubles(WELL, gone))
    assert all("The last one was seen 60 s ago on here." in one.sentence for one in troubles(WELL, gone))


def test_what_processes_saw_happen_is_in_the_ledger_with_the_next_heartbeat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-183: added up over processes; what could not be written is written later."""
    marks.take()
    marks.note(marks.SIGNATURE_REFUSED, "first")
    heartbeat = Heartbeat(database, kind="web")
    with monkeypatch.context() as broken:
        broken.setattr(presence, "upsert", None)
        with pytest.raises(TypeError):
            heartbeat.beat()
    marks.note(marks.SIGNATURE_REFUSED, "second")
    heartbeat.beat()
    marks.note(marks.SIGNATURE_REFUSED, "third")
    Heartbeat(database, kind="web").beat()
    heartbeat.beat()
    with database.read() as connection:
        seen = read_deliveries(connection)
        (now,) = {process.age_seconds < 60 for process in list_processes(connection)}
    assert (seen.refused, seen.why, seen.last_signed_at, now) == (3, "third", None, True)
    assert seen.last_refused_at is not None


REFUSED = {"refused": 2, "last_refused_at": NOON - timedelta(minutes=3), "why": "No secret."}


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (WELL | {"deliveries": REFUSED}, "2 of Stripe's deliveries were refused: No secret."),
        (WELL | {"deliveries": REFUSED | {"last_signed_at": NOON - timedelta(hours=3)}}, "none was taken for 3 h"),
        (WELL | {"deliveries": REFUSED | {"last_signed_at": NOON - timedelta(minutes=1)}}, None),  # a stranger's
        (WELL | {"deliveries": REFUSED | {"last_refused_at": NOON - timedelta(days=2)}}, None),
        (WELL | {"stripe_limited": {"last_at": NOON - timedelta(minutes=1), "times": 1}}, "slow down (429)"),
        (WELL | {"stripe_limited": {"last_at": NOON - timedelta(minutes=11), "times": 1}}, None),
        (
            WELL | {"messages": {"failing": 2, "oldest_failing_at": NOON - timedelta(minutes=2), "error": "500."}},
            "does not take changes (2 are tried again, the oldest for 2 min): 500.",
        ),
        (WELL | {"messages": {"failing": 2, "oldest_failing_at": NOON - timedelta(seconds=30), "error": "x"}}, None),
        (WELL | {"deliveries": REFUSED | {"refused": 1}}, "1 of Stripe's deliveries was refused: No secret."),
        (
            WELL | {"events": {"dead": 1, "error": "No such price."}},
            "1 event was given up. The last one: No such price.",
        ),
        (WELL | {"ledger": "The disk is full."}, "The ledger takes no writes, or soon will not: The disk is full."),
        (WELL | {"broker": TAKES_NOTHING}, "takes no messages, since its memory is full or it is read only"),
        (WELL | {"broker": NOT_REACHABLE}, "does not answer: buyers wait"),
        (WELL | {"key_refused": {"why": "No key.", "last_at": NOON}}, "No key. The last time was 0 s ago."),
        (
            WELL | {"key_refused": {"why": "No key.", "last_at": NOON - timedelta(seconds=1)}},
            None,
        ),  # workers began since
        (
            WELL
            | {"key_refused": {"why": "No key.", "last_at": NOON}}
            | {"checkouts_refused": {"count": 2, "last_at": NOON, "error": "No key."}},
            "No key. The last time",  # once
        ),
        (
            WELL | {"checkouts_refused": {"count": 2, "last_at": NOON - timedelta(minutes=3), "error": "Archived."}},
            "2 checkouts of the last hour were refused by Stripe, the last 3 min ago: Archived.",
        ),
        (
            WELL | {"undelivered": {"types": "", "events": 9, "since_at": NOON - timedelta(hours=3)}},
            "Stripe delivers nothing: reconciling found 9 events in 3 h, and none of these came since.",
        ),
        (
            WELL | {"undelivered": {"types": "a.b, c.d", "events": 1, "since_at": NOON - timedelta(hours=3)}},
            "Stripe does not deliver a.b, c.d: reconciling found 1 event",
        ),
        (
            WELL | {"checkouts": waits(2) | {"waits_for": "stripe_unavailable"}},
            "A buyer has waited for a payment page for more than a minute. The last error: stripe_unavailable.",
        ),
        (
            WELL | {"events": waits(6) | {"waits_for": "Stripe failed."}},
            "more than five minutes. The last error: Stripe failed.",
        ),
        (WELL | {"operations": waits(2)}, "A buyer has waited for a change"),
        (
            WELL | {"reconcile": {"age_seconds": 7300, "error": "No key."}},
            "for 2 h: what was never delivered is missing. No",
        ),
        (WELL | {"incidents": {"a_kind": 2, "b": 1}}, "3 incidents wait for a person: a kind (2), b (1)."),
    ],
)
def test_trouble_says_its_cause(summary: dict[str, Any], sentence: str | None) -> None:
    """OPS-147, OPS-183"""
    found = troubles(summary, EVERYBODY)
    assert [sentence is not None and sentence in trouble.sentence for trouble in found] == [True] * (
        sentence is not None
    )
