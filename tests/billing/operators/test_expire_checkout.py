"""A person ends an open payment page: by the lane's own steps, and never one that was paid."""

from typing import Any

import pytest

from billing.coordination.jobs import WorkLane
from billing.database import Database
from billing.errors import NotFound, StaleWrite
from billing.maintenance.sweep import sweep
from billing.models import AttemptOutcome
from billing.operators.expire_checkout import NotOpen, begin_expiry, look_up_expiry
from billing.operators.lookup import show_checkout
from tests.support.checkout_world import World


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def begin(world: World, checkout_id: str) -> Any:
    return begin_expiry(checkout_id, database=world.database, queue=world.queue, clock=world.clock)


def test_page_is_expired_by_a_worker_and_given_to_nobody_meanwhile(world: World) -> None:
    """OPS-180"""
    view = world.served("standard")
    expiry = begin(world, view.id)
    assert (expiry.session_id, world.view(view.id).url) == (view.session_id, None), "before anything is expired"
    assert len(world.sessions("open")) == 1
    assert look_up_expiry(expiry, database=world.database) is None
    world.work()
    assert world.sessions("open") == []
    assert look_up_expiry(expiry, database=world.database) is AttemptOutcome.EXPIRED
    assert world.view(view.id).status == "expired"
    assert show_checkout(view.id, database=world.database, clock=world.clock)["status"] == "expired"
    again = world.served("standard")
    assert (again.status, again.session_id == view.session_id) == ("open", False), "the buyer can ask anew"


def test_page_that_was_paid_meanwhile_stays_paid(world: World) -> None:
    """OPS-180"""
    view = world.served("standard")
    expiry = begin(world, view.id)
    world.sandbox.pay(str(view.session_id))
    world.work()
    assert look_up_expiry(expiry, database=world.database) is AttemptOutcome.COMPLETED
    assert world.view(view.id).status == "completed"
    with pytest.raises(NotOpen, match="is completed"):
        begin(world, view.id)


def test_lost_message_is_found_by_the_sweep(world: World) -> None:
    """OPS-180, LED-8"""
    view = world.served("standard")
    begin(world, view.id)
    world.queue.sent.clear()
    sweep(database=world.database, queue=world.queue, clock=world.clock)
    assert world.queue.sent == [WorkLane(1)]
    world.work()
    assert world.view(view.id).status == "expired"


def test_buyer_who_asks_meanwhile_gets_a_page_of_their_own(world: World) -> None:
    """OPS-180, I4"""
    view = world.served("standard")
    begin(world, view.id)
    newer = world.ask("commit")
    world.work()
    assert world.view(newer).status == "open"
    assert world.view(view.id).status == "superseded", "by the newer one"
    assert len(world.sessions("open")) == 1


def test_only_an_open_page_can_be_expired(world: World) -> None:
    waiting = world.ask("standard")
    with pytest.raises(NotOpen, match="is pending"):
        begin(world, waiting)
    with pytest.raises(NotFound):
        begin(world, "chk_nowhere")
    world.work()
    newer = world.served("commit")
    with pytest.raises(NotOpen, match="is superseded"):
        begin(world, waiting)
    assert world.view(newer.id).status == "open", "the page of another checkout is left alone"


def test_of_two_people_one_begins_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-180: the other's compare-and-set is lost."""
    view = world.served("standard")
    monkeypatch.setattr("billing.checkout.lane_store.move", lambda *_, **__: False)
    with pytest.raises(StaleWrite):
        begin(world, view.id)
    assert world.view(view.id).status == "open"
