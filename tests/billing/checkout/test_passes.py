"""What a pass over a lane may cost, and that none goes on without end."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.errors import StripeMissing
from billing.models import CheckoutStatus, lanes
from tests.support.checkout_world import World
from tests.support.databases import sqlite_in


def next_attempt_at(world: World) -> Any:
    """Until when the lane has to wait."""
    with world.database.read() as connection:
        return connection.scalar(sa.select(lanes.c.next_attempt_at))


def test_twentieth_checkout_costs_no_more_calls_than_the_third(world: World) -> None:
    """LAN-11: what we saw expired is not looked at again: a buyer who alternates plans must not cost more each time."""
    costs = []
    for turn in range(20):
        world.sandbox.log.clear()
        world.served(("standard", "commit")[turn % 2])
        costs.append(len(world.requests()))
    assert costs[-1] == costs[2]
    assert len(world.sessions("open")) == 1


def test_session_that_the_list_lacks_is_fetched_however_old_its_attempt_looks(world: World) -> None:
    """LAN-11: the lane's own session is always fetched by its id."""
    first = world.served()
    world.sandbox.faults.add("stale_list", method="GET", path="^/v1/checkout/sessions$", seconds=200_000, times=None)
    world.clock.advance(seconds=600)
    assert world.served().session_id == first.session_id


def test_sessions_that_vanish_as_soon_as_they_are_made_are_not_made_without_end(world: World) -> None:
    """LAN-22: whatever the reason, a pass that does not end waits, longer each time."""
    checkout_id = world.ask()

    def nothing_there(session_id: str) -> Any:
        raise StripeMissing("No such session.", status=404, stripe_code="resource_missing", param="id")

    world.stripe.get_session = nothing_there  # type: ignore[method-assign]
    world.stripe.list_sessions = lambda customer_id, *, created_since: []  # type: ignore[method-assign]
    for _ in range(60):
        world.work_lane()
        world.clock.advance(seconds=1)
    assert world.creates() < 120  # eight a pass, and about eight passes a minute; it was eight a second
    assert world.view(checkout_id).status is CheckoutStatus.PENDING
    assert world.view(checkout_id).trouble == "try_again"


def test_lane_that_makes_its_worker_fail_waits(world: World) -> None:
    """LAN-22: a bug is heard of, and the lane is not worked in a loop."""
    world.served()
    checkout_id = world.ask()

    def odd(customer_id: str) -> Any:
        return [{"id": "sub_1", "status": "active", "items": 5, "metadata": None}]

    real, world.stripe.list_subscriptions = world.stripe.list_subscriptions, odd  # type: ignore[method-assign]
    with pytest.raises(AttributeError):
        world.work_lane()
    assert next_attempt_at(world) > world.clock.now()
    world.stripe.list_subscriptions = real  # type: ignore[method-assign]
    world.clock.advance(seconds=61)
    world.work_lane()
    assert world.view(checkout_id).status is CheckoutStatus.OPEN


def test_hundred_equal_checkouts_that_arrive_during_a_pass_cost_what_one_costs(world: World) -> None:
    """LAN-23, CHK-2"""
    world.served(user="user_0")
    alone = len(world.requests())
    create = world.stripe.create_session
    ids: list[str] = []

    def slow(*given: Any, **named: Any) -> str:
        ids.extend(world.ask() for _ in range(99))
        return create(*given, **named)

    world.stripe.create_session = slow  # type: ignore[method-assign]
    world.sandbox.log.clear()
    ids.append(world.ask())
    world.work()

    assert len(world.requests()) == alone
    assert len({world.view(id_).url for id_ in ids}) == 1


@pytest.mark.parametrize("number", [1, 50])
def test_checkouts_that_arrive_during_the_last_look_share_the_next_one(world: World, number: int) -> None:
    """LAN-23, LAN-18: none is answered with a look that began before it arrived, and all of them need one."""
    world.served()
    look = world.stripe.list_subscriptions
    ids: list[str] = []

    def slow(customer_id: str) -> list[dict[str, Any]]:
        if not ids:
            ids.extend(world.ask() for _ in range(number))
        return look(customer_id)

    world.stripe.list_subscriptions = slow  # type: ignore[method-assign]
    first = world.ask()
    world.queue.sent.clear()
    world.sandbox.log.clear()
    world.work_lane()
    assert world.view(first).url
    assert {world.view(id_).status for id_ in ids} == {CheckoutStatus.PENDING}
    assert len(world.queue.sent) == 1, "the slot is given back, and the job sent once"
    world.work()
    assert {world.view(id_).status for id_ in ids} == {CheckoutStatus.OPEN}
    assert len(world.requests()) == 2 * 3


def test_crowd_that_keeps_arriving_is_looked_at_once_when_it_has_arrived(world: World) -> None:
    """LAN-24, CHK-2: a hundred requests 5 ms apart, over HTTP half a second, cost what a single one costs."""
    world.served(user="alone")
    alone = len(world.requests())
    world.sandbox.log.clear()
    ids = [world.ask(user="crowd")]
    while len(ids) < 100:
        world.clock.advance(seconds=0.005)
        ids.append(world.ask(user="crowd"))
        if len(ids) % 10 == 0:
            world.work_lane(2)  # woken all the while
    world.work()
    assert len(world.requests()) == alone
    assert len({world.view(id_, user="crowd").url for id_ in ids}) == 1


def test_checkout_arrives_when_it_is_numbered_and_not_when_it_gets_in_line(world: World) -> None:
    """LAN-25: a hundred that came together and are recorded one by one are still arriving, whoever looks meanwhile."""
    world.served()
    write = world.database.write

    @contextmanager
    def write_after_waiting() -> Iterator[sa.Connection]:
        world.clock.advance(seconds=0.2)
        with write() as connection:
            yield connection

    world.database.write = write_after_waiting  # type: ignore[method-assign]
    ids = [world.ask() for _ in range(3)]
    world.database.write = write  # type: ignore[method-assign]
    world.work_lane()
    assert {world.view(id_).status for id_ in ids} == {CheckoutStatus.PENDING}, "the last one came just now"
    world.work()
    assert {world.view(id_).status for id_ in ids} == {CheckoutStatus.OPEN}


def test_crowd_that_never_ends_is_looked_at_every_second(world: World) -> None:
    """LAN-24: gathering must not become waiting."""
    world.served()
    begun = world.clock.now()
    first, *_ = [world.ask() for _ in range(3)]
    while world.view(first).url is None:
        world.clock.advance(seconds=0.02)
        world.ask()
        world.work_lane()
        assert world.clock.now() - begun <= timedelta(seconds=1.1)
    assert world.clock.now() - begun > timedelta(seconds=0.9)


def test_double_click_is_not_waited_for(world: World) -> None:
    """LAN-24: two requests are no crowd; nor is any number of them that came a moment ago."""
    world.served()
    both = [world.ask(), world.ask()]
    world.work_lane()
    assert all(world.view(id_).url for id_ in both)
    many = [world.ask() for _ in range(10)]
    world.clock.advance(seconds=0.1)
    world.work_lane()
    assert all(world.view(id_).url for id_ in many)


def test_hundred_equal_requests_cost_no_more_calls_than_one(world: World) -> None:
    """CHK-2, LAN-23: whoever has arrived before the last look shares what it saw."""
    world.served(user="alone")
    alone = len(world.requests())
    for _ in range(100):
        world.ask(user="crowd")
    world.work()
    assert len(world.requests()) == 2 * alone
    assert len(world.sessions("open")) == 2


@pytest.mark.timeout(300)
def test_thousand_buyers_have_a_session_each_for_what_a_thousand_single_ones_cost(tmp_path: Path) -> None:
    """CHK-2, LAN-11; faults row 4: on SQLite only, a thousand passes being enough."""
    with sqlite_in(tmp_path) as database:
        sa.event.listen(database.engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        database.close()  # the connections of the migration
        world = World(database)
        for number in range(1000):
            world.ask(user=f"user_{number}")
        world.work()
    sessions = world.sessions("open")
    assert len({one["customer"] for one in sessions}) == len(sessions) == len(world.objects("customer")) == 1000
    assert len(world.requests()) <= 8 * 1000
