"""The tiles of the first page: what is good, what waits, and what is bad."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from app.console.overview import SHOWN_AT, Tile, _at_stripe, _processes, _waiting
from billing.coordination.jobs import QUEUES
from billing.operators.minutes import COUNTED
from billing.operators.presence import Process
from billing.operators.worst import troubles
from tests.support.builders import NOON

CALM: dict[str, Any] = {"oldest_pending_at": None}
NOTHING = {name: [0, None, 0] for name in COUNTED}


def a_process(kind: str, age: float, *queues: str) -> Process:
    return Process(kind, kind, queues, 4, "1", "host", 1, NOON, age)


def tiles(**instead: Any) -> dict[str, Tile]:
    summary = {"at": NOON, "checkouts": CALM, "events": CALM, "messages": CALM, "incidents": {}} | instead
    return {tile.name: tile for tile in _waiting(summary)}


def at_stripe(counted: dict[str, Any], *, reconciled: float = 60, last: datetime | None = NOON) -> dict[str, Tile]:
    events = {"last_received_at": last}
    there = [a_process("worker", 1), a_process("worker", 2), a_process("worker", 99)]
    summary = {"at": NOON, "events": events, "there": there, "reconcile": {"age_seconds": reconciled}}
    return {tile.name: tile for tile in _at_stripe(summary, NOTHING | counted, 20)}


def test_nothing_waits() -> None:
    assert {tile.state for tile in tiles().values()} == {"good"}


@pytest.mark.parametrize(
    ("name", "subject", "patience"),
    [
        ("Checkouts", "checkouts", timedelta(minutes=1)),
        ("Events", "events", timedelta(minutes=5)),
        ("Notifications", "messages", timedelta(minutes=10)),
    ],
)
def test_what_waits_is_bad_when_the_report_says_so(name: str, subject: str, patience: timedelta) -> None:
    for age, state in ((patience - timedelta(seconds=1), "wait"), (patience + timedelta(seconds=1), "bad")):
        tile = tiles(**{subject: {"pending": 1234, "oldest_pending_at": NOON - age}})[name]
        assert (tile.value, tile.state) == ("1,234", state)


def test_what_was_given_up_is_bad() -> None:
    shown = tiles(events=CALM | {"dead": 2}, messages=CALM | {"dead": 3}, incidents={"a": 1, "b": 4})
    assert [(tile.value, tile.state) for tile in list(shown.values())[3:]] == [("2", "bad"), ("3", "bad"), ("5", "bad")]


def test_queue_beat_and_web_without_a_process_are_bad() -> None:
    found = list(_processes([a_process("worker", 1, *QUEUES), a_process("beat", 99)]))
    assert [(tile.value, tile.state) for tile in found] == [("1", "good")] * 3 + [("0", "bad"), ("0", "bad")]
    assert (found[3].more, found[4].more) == ("last seen 99\u00a0s ago", "none within a day")


def test_every_trouble_but_a_missing_process_has_its_page() -> None:
    """CON-15"""
    long_ago = NOON - timedelta(hours=1)
    waits = {"oldest_pending_at": long_ago}
    wrong: dict[str, Any] = {
        "at": NOON,
        "checkouts": waits,
        "events": waits | {"dead": 1},
        "messages": {"failing": 1, "oldest_failing_at": long_ago, "error": "It answered 500.", "dead": 1},
        "incidents": {"duplicate_subscription": 1},
        "deliveries": {"refused": 1, "last_refused_at": NOON},
        "stripe_limited": {"last_at": NOON},
        "key_refused": {"why": "Stripe does not accept STRIPE_API_KEY.", "last_at": NOON},
        "checkouts_refused": {"count": 1, "last_at": NOON, "error": "No such price."},
        "reconcile": {"age_seconds": 9999.0, "error": None},
        "operations": waits,
        "broker": "not reachable",
    }
    found = {trouble.subject for trouble in (*troubles(wrong, []), *troubles(wrong | {"ledger": "It is full."}, []))}
    assert found == {*SHOWN_AT, "web", "workers", "beat", "operations"}


def test_hour_at_stripe_is_added_up() -> None:
    """WHK-63: two workers have one budget together."""
    shown = at_stripe({"deliveries": [1, None, 2], "stripe_calls": [40, 5, None]})
    assert shown["Deliveries"].value == "3"
    assert (shown["Calls to Stripe"].value, shown["Calls to Stripe"].more) == ("45", "40 in a minute, of 1,200")
    assert {tile.state for tile in shown.values()} == {"good"}


def test_refused_signature_is_bad_and_429_is_waited_for() -> None:
    shown = at_stripe({"signatures_refused": [0, 1, None], "stripe_429": [2, None, 0]})
    assert (shown["Refused signatures"].state, shown["429 from Stripe"].state) == ("bad", "wait")


@pytest.mark.parametrize(("age", "state"), [(0, "wait"), (3599, "good"), (3601, "bad")])
def test_reconciling_is_late_after_an_hour(age: float, state: str) -> None:
    assert at_stripe({}, reconciled=age)["Reconciled"].state == state
