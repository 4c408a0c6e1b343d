"""Pruning of checkouts: what ended long ago loses its body, and nothing that is still needed does."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.maintenance import prune as pruning
from billing.maintenance.prune import prune
from billing.maintenance.runs import Run
from billing.models import AttemptOutcome, LaneState, attempts, checkouts, lanes
from billing.operators import erasure_store
from billing.subscriptions import product_trial
from tests.support.builders import CATALOG
from tests.support.checkout_world import World

NOTE = {"note": "kept"}
Prune = Callable[..., Run]


@pytest.fixture
def prune_later(world: World) -> Prune:
    """Prune so many days from now, as beat does."""

    def prune_later(days: int = 31) -> Run:
        world.clock.advance(days=days)
        row = prune(database=world.database, clock=world.clock, payload_days=30, row_days=365)
        assert row is not None
        return row

    return prune_later


def bodies(world: World) -> list[bool]:
    """Whether each checkout still has a body, in the order in which they came."""
    return [bool(row.request) for row in sorted(world.rows(checkouts), key=lambda row: row.number)]


def test_body_goes_after_thirty_days_and_the_row_stays(world: World, prune_later: Prune) -> None:
    """LED-25: superseded, expired and refused; a young one keeps its own."""
    expired = world.served(metadata=NOTE)
    world.served("commit", metadata=NOTE)
    assert prune_later(29).report["checkouts"] == 0
    young = world.served(metadata=NOTE)
    assert prune_later(2).report["checkouts"] == 2
    assert bodies(world) == [False, False, True]
    shown = world.view(expired.id)
    assert (shown.said.metadata, shown.plan, shown.url) == ({}, "standard", None)
    assert world.view(young.id).said.metadata == NOTE


def test_what_an_older_version_left_in_attempts_goes_too(world: World, prune_later: Prune) -> None:
    """LED-25, LED-26: parameters, but for whose they were, and addresses; an erasure finds each customer."""
    world.served(metadata=NOTE)
    [before] = world.rows(attempts)
    old = {"customer": before.parameters["customer"], "metadata": NOTE}
    with world.database.write() as connection:
        connection.execute(sa.update(attempts).values(parameters=old, url="https://pay.example/secret"))
    prune_later()
    [row] = world.rows(attempts)
    assert (row.parameters, row.url) == (before.parameters, None)
    with world.database.read() as connection:
        assert erasure_store.customers_of(connection, "user_1") == [before.parameters["customer"]]


def test_paid_checkout_keeps_its_body_and_its_buyer_gets_no_second_trial(world: World, prune_later: Prune) -> None:
    """LED-25, LED-26: its metadata are shown with the subscription; Stripe may have deleted the customer since."""
    world.sandbox.pay(str(world.served(metadata=NOTE).session_id))
    world.served()
    assert prune_later().report["checkouts"] == 1
    assert bodies(world) == [True, False]
    assert [row.outcome for row in world.rows(attempts)] == [AttemptOutcome.COMPLETED]
    with world.database.read() as connection:
        assert not product_trial.may_begin(connection, "user_1", CATALOG.product)


def test_what_has_no_known_end_keeps_its_body(world: World, prune_later: Prune) -> None:
    """LED-25: nobody was told how its session ended; the next look at Stripe may say that it was paid."""
    world.served(metadata=NOTE)
    assert prune_later().report["checkouts"] == 0
    assert bodies(world) == [True]
    [row] = world.rows(attempts)
    assert row.url is None


def test_attempt_that_is_still_to_be_sent_stays_whole(world: World, prune_later: Prune) -> None:
    """LED-25, LAN-61: however old it is."""
    world.sandbox.faults.add("drop_after", method="POST", path="/v1/checkout/sessions")
    world.ask(metadata=NOTE)
    world.work_lane()
    [before] = world.rows(attempts)
    assert [row.state for row in world.rows(lanes)] == [LaneState.CREATING]
    with world.database.write() as connection:  # its buyer was told that it failed
        connection.execute(sa.update(checkouts).values(status="failed"))
    prune_later()
    assert world.rows(attempts) == [before]
    assert bodies(world) == [True]


@pytest.mark.parametrize("apart", [0, 1])
def test_very_many_are_pruned_in_pieces(
    world: World, prune_later: Prune, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    """LED-22, LED-25: also when all came at one moment; the next run begins where this one ended."""
    monkeypatch.setattr(pruning, "BATCH", 2)
    for number in range(10):
        world.served(["standard", "commit"][number % 2])
        world.clock.advance(minutes=apart)
    row = prune_later()
    assert row.report["checkouts"] == 9
    assert bodies(world) == [False] * 9 + [True], "of the last one nobody knows the end"
    assert row.since == row.started_at - timedelta(days=30)  # type: ignore[operator]
    assert prune_later(1).report["checkouts"] == 0
