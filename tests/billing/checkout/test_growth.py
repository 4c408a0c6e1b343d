"""What one buyer can make the ledger grow: a body stands in it once, and addresses go with their sessions."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from billing.checkout.requests import MOST_METADATA_BYTES
from billing.database import Database
from billing.errors import InvalidRequest
from billing.models import AttemptOutcome, CheckoutStatus, attempts, metadata
from billing.process.settings import Settings
from billing.subscriptions import projection_store
from tests.support.builders import SECRET, deliver
from tests.support.checkout_world import ORIGIN, World
from tests.support.receiving import receive

MARK = "find-me-again"
DAY = 24 * 60
MEGABYTE = 1_000_000
ROW_BYTES = 600  # what a row has beside its values: its head, and its entries in up to six indexes


def texts(database: Database) -> list[str]:
    """Every value of every row, as text."""
    with database.read() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(sa.select(table))]
    values = [value for row in rows for value in row]
    return [value.decode() if isinstance(value, bytes) else json.dumps(value, default=str) for value in values]


def copies(database: Database, text: str = MARK) -> int:
    """How often it stands in the ledger."""
    return sum(value.count(text) for value in texts(database))


def ledger_bytes(database: Database) -> int:
    """The bytes of all values, as the database stores them, and of what each row has beside them."""

    def size(column: sa.Column[Any]) -> sa.ColumnElement[int]:
        name = sa.literal_column(f'"{column.name}"')
        if isinstance(column.type, sa.LargeBinary):
            return sa.func.coalesce(sa.func.length(column), 0)
        if database.is_sqlite:
            return sa.func.coalesce(sa.func.length(sa.cast(name, sa.LargeBinary)), 0)
        return sa.func.coalesce(sa.func.octet_length(sa.cast(name, sa.Text)), 0)

    with database.read() as connection:
        each = [
            connection.scalar(
                sa.select(sa.func.sum(sum(map(size, table.columns), sa.literal(ROW_BYTES)))).select_from(table)
            )
            for table in metadata.sorted_tables
        ]
    return sum(int(one or 0) for one in each)


def test_answered_checkout_has_its_metadata_once(world: World) -> None:
    """CHK-39, LAN-61: and what Stripe was sent has them on the session and on the subscription."""
    view = world.served(metadata={"note": MARK})
    assert view.said.metadata == {"note": MARK}
    assert copies(world.database) == 1
    [row] = world.rows(attempts)
    assert row.parameters == {"customer": world.sessions()[0]["customer"]}
    [sent] = [json.dumps(one) for one in world.sessions()]
    assert MARK in sent


def test_whoever_asks_the_same_again_is_shown_their_metadata_and_adds_none(world: World) -> None:
    """CHK-39"""
    first = world.served(metadata={"note": MARK})
    again = [world.ask(metadata={"note": MARK}) for _ in range(5)]
    world.work()
    assert [world.view(id_).said for id_ in again] == [first.said] * 5
    assert copies(world.database) == 1


def test_whoever_is_refused_again_and_again_has_their_body_kept_once(world: World) -> None:
    """CHK-39: one after the other and several at once, with something else in between."""
    world.sandbox.pay(str(world.served().session_id))
    for number in (1, 3):
        ids = [world.ask(metadata={"note": MARK}) for _ in range(number)]
        world.work()
        assert {world.view(id_).status for id_ in ids} == {CheckoutStatus.REFUSED}
    assert copies(world.database) == 1
    world.served("commit")
    world.served(metadata={"note": MARK})
    assert copies(world.database) == 2, "the one before it had another body"


def test_attempt_that_stripe_refuses_keeps_whose_it_was(world: World) -> None:
    """LAN-61"""
    world.sandbox.faults.add("status", method="POST", path="/v1/checkout/sessions", status=400)
    view = world.served(metadata={"note": MARK})
    assert view.status is CheckoutStatus.FAILED
    [row] = world.rows(attempts)
    assert (row.outcome, list(row.parameters)) == (AttemptOutcome.REFUSED, ["customer"])
    assert copies(world.database) == 1


@pytest.mark.parametrize("end", ["paid", "closed", "told"])
def test_address_of_a_page_goes_with_its_session(world: World, end: str) -> None:
    """CHK-40: when the lane closes, or when an event says that it is over."""
    view = world.served()
    assert copies(world.database, str(view.url)) == 1
    if end == "told":
        with world.database.write() as connection:
            projection_store.note_session(connection, str(view.session_id), AttemptOutcome.EXPIRED)
    else:
        if end == "paid":
            world.sandbox.pay(str(view.session_id))
        world.served("commit")
    assert copies(world.database, str(view.url)) == 0


@pytest.mark.parametrize(("letters", "letter"), [(401, "x"), (134, "€"), (101, "😀")])
def test_metadata_are_measured_in_bytes(world: World, letters: int, letter: str) -> None:
    """CHK-38: names and values together; the refusal names the limit and how much it was."""
    names = [f"name-{number:04}" for number in range(20)]
    fits = dict.fromkeys(names, letter * (letters - 1))
    world.ask(metadata={**fits, names[0]: "x"})
    size = 20 * (9 + len(letter.encode()) * letters)
    with pytest.raises(InvalidRequest) as refused:
        world.ask(metadata=dict.fromkeys(names, letter * letters))
    assert size > MOST_METADATA_BYTES
    [error] = refused.value.errors
    assert error["pointer"] == "/metadata"
    assert str(size) in error["detail"]
    assert str(MOST_METADATA_BYTES) in error["detail"]


def test_buyer_within_the_rates_makes_the_ledger_grow_by_a_bound(world: World) -> None:
    """LED-27, faults row 129: with the largest bodies there may be, by the rates of an installation that sets none.

    The real parts are asked for some; a day has as many as the rates allow. Stripe's events count, too.
    """
    fields = Settings.model_fields
    assert fields["rate_limit_checkouts"].default == "30/minute"
    assert fields["rate_limit_different_checkouts"].default == "60/hour"
    different, repeated = 60 * 24, 30 * DAY - 60 * 24
    world.served()
    before = ledger_bytes(world.database)
    rounds = 6
    for number in range(rounds):
        world.served(**largest(number))
    receive_events(world)
    each = (ledger_bytes(world.database) - before) / rounds
    before = ledger_bytes(world.database)
    for _ in range(rounds):
        world.ask(**largest(rounds - 1))
    world.work()
    again = (ledger_bytes(world.database) - before) / rounds
    day = different * each + repeated * again
    print(f"{each:.0f} bytes for a different checkout, {again:.0f} for the same again: {day / MEGABYTE:.0f} MB a day")
    assert day < 120 * MEGABYTE


def largest(number: int) -> dict[str, Any]:
    """The largest body there may be, another one for each number."""
    said = {f"name-{one:02}": "😀" * 100 for one in range(20)}
    addresses = {name: f"{ORIGIN}/{number}/".ljust(2000, "x") for name in ("success_url", "cancel_url")}
    return {**addresses, "client_reference_id": "😀" * 200, "metadata": said}


def receive_events(world: World) -> None:
    """Deliver whatever Stripe tells of the sessions."""
    for event in world.objects("event"):
        body, header = deliver(event, at=world.clock.now())
        handed: dict[str, Any] = {"database": world.database, "queue": world.queue, "clock": world.clock}
        receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **handed)
