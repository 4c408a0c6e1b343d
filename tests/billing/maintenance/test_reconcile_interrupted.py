"""A reconciling run that is killed, that another one meets, or that fails in passing: the next one goes on."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import StaleWrite, StripeUnclear
from billing.maintenance import runs
from billing.maintenance.reconcile_steps import COUNTS
from billing.models import (
    RunPhase,
    events,
    projections,
)
from billing.webhooks.event_types import action_for
from tests.support.builders import NOON
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.reconcile_world import every


def test_of_two_at_once_one_goes_on(shop):
    """WHK-49."""
    shop.subscribe("user_1")
    with shop.database.write() as connection:
        assert runs.claim(connection, 1, token="other", now=shop.clock.now() + timedelta(minutes=5))
    assert shop.reconcile() is None
    assert shop.found() == set()
    shop.clock.advance(seconds=60)
    assert shop.reconcile() is not None, "its lease is over"


def test_lease_of_a_clock_that_was_ahead_is_not_waited_for(shop):
    """WHK-49, faults row 30."""
    with shop.database.write() as connection:
        runs.claim(connection, 1, token="ahead", now=shop.clock.now() + timedelta(hours=2))
    assert shop.reconcile() is not None


def test_one_that_lost_its_claim_records_nothing_more(shop):
    """WHK-49: frozen for longer than its lease, in the middle of a page."""
    shop.subscribe("user_1")
    real = shop.stripe.page_events

    def lose(**options):
        page = real(**options)
        with shop.database.write() as connection:
            connection.execute(sa.text("UPDATE upkeep SET claim = 'successor'"))
        return page

    shop.stripe.page_events = lose
    with pytest.raises(StaleWrite):
        shop.reconcile()
    assert shop.rows(events) == []
    assert shop.run_row().claim == "successor"


def test_killed_at_any_point_the_next_one_goes_on(shop):
    """WHK-50, faults row 78: before and after every call to Stripe and every commit, again and again to the end."""
    for number in range(16):
        shop.subscribe(f"user_{number}")
    made = shop.made()
    shop.deliver(every(3)(made))
    shop.work_events()
    shop.served("standard", user="stray")
    with shop.database.write() as connection:
        connection.execute(sa.text("UPDATE lanes SET state='closed', nonce=NULL, session_id=NULL"))
        connection.execute(sa.update(projections).values(synced_at=NOON))
    seen_cursors, crashes = set(), 0
    for steps in range(1, 400):
        fuse = Fuse(3 + steps % 9)
        fused = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
        try:
            row = shop.reconcile(**fused)
        except Crash:
            crashes += 1
            shop.queue.sent.clear()  # Redis lost them, too
            seen_cursors.add((shop.run_row().phase, shop.run_row().cursor))
            continue
        assert row is not None
        break
    else:
        pytest.fail("it never came to its end")
    assert crashes > 10
    assert {phase for phase, _ in seen_cursors} >= {RunPhase.STRAYS, RunPhase.EVENTS, RunPhase.CUSTOMERS}
    assert len([cursor for phase, cursor in seen_cursors if phase is RunPhase.EVENTS and cursor]) >= 1
    assert shop.found() & {event["id"] for event in made} == {e["id"] for e in made[2::3] if action_for(e["type"])}
    assert shop.sessions("open") == []
    shop.queue.sent = [WorkEvents()]
    shop.work_events()
    assert shop.projection() == shop.truth()


@pytest.mark.parametrize("steps", range(1, 26))
def test_killed_once_at_this_point(shop, steps):
    """WHK-50, faults row 78: one crash, then one run to the end."""
    for number in range(3):
        shop.subscribe(f"user_{number}")
    fuse = Fuse(steps)
    fused = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
    try:
        shop.reconcile(**fused)
    except Crash:
        shop.queue.sent.clear()
    row = shop.reconcile()
    assert row is not None
    assert not row.unfinished
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}
    shop.queue.sent = [WorkEvents()]
    shop.work_events()
    assert shop.projection() == shop.truth()


def test_run_in_slices_goes_on_where_it_was(shop):
    """WHK-50: a worker's thread is not kept for long."""
    for number in range(20):
        shop.subscribe(f"user_{number}")
    rows = [shop.reconcile(stop=after_steps(1))]
    while rows[-1].unfinished:
        rows.append(shop.reconcile(stop=after_steps(1)))
    assert len(rows) >= 3
    assert rows[-1].report["pages"] == len(shop.requests("GET", "/v1/events"))
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}


def after_steps(number):
    """Stop after so many steps."""
    left = iter(range(number))
    return lambda: next(left, None) is None


def test_page_whose_place_is_gone_is_read_again_from_the_newest(shop):
    """WHK-50, faults row 78: the run lay for so long that Stripe forgot the event at which it was."""
    for number in range(20):
        shop.subscribe(f"user_{number}")
    shop.reconcile(dry=True)
    with shop.database.write() as connection:
        row = runs.claim(connection, 1, token="me", now=shop.clock.now())
        begun = {
            "phase": "events",
            "cursor": "evt_forgotten",
            "report": dict.fromkeys(COUNTS, 0) | {"gap": False, "drift": []},
        }
        begun |= {"since": shop.clock.now() - timedelta(days=1), "started_at": shop.clock.now()}
        runs.let_go(connection, row, **begun)
    assert not shop.reconcile().unfinished
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}


def test_failure_in_passing_is_noted_and_waited_for(shop):
    """WHK-50: the place is kept; beat comes back when Stripe said so."""
    shop.subscribe("user_1")
    shop.sandbox.faults.add("status", path="/v1/events", status=503, times=2, headers={"Retry-After": "70"})
    with pytest.raises(StripeUnclear):
        shop.reconcile()
    row = shop.run_row()
    assert (row.phase, row.claim, row.failures) == (RunPhase.EVENTS, None, 1)
    assert row.next_attempt_at == shop.clock.now() + timedelta(seconds=70)
    shop.clock.advance(minutes=-5, seconds=60)
    assert shop.reconcile(when_due=True) is None
    assert not shop.reconcile(when_due=True).unfinished
    assert (shop.run_row().failures, shop.run_row().next_attempt_at) == (0, None)
