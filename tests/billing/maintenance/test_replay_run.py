"""Replays that workers run, a batch for each message."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import ReplayEvents, WorkEvents
from billing.errors import NotFound
from billing.maintenance import replay_store
from billing.maintenance.replay import ReplayRunning, replay_few
from billing.maintenance.replay_run import BATCH, begin_run, stop_run, work_run
from billing.maintenance.replay_store import EventFilter
from billing.maintenance.sweep import sweep
from billing.models import EventStatus, events, replayed_events, replays
from billing.operators.replays import show_replay
from billing.rules.lease import LEASE
from tests.support.builders import NOON

HOUR = timedelta(hours=1)
DEAD = EventFilter(status=EventStatus.DEAD)


@pytest.fixture
def places(database, queue, clock):
    """What each step is handed."""
    return {"database": database, "queue": queue, "clock": clock}


def state(database):
    with database.read() as connection:
        return tuple(connection.execute(sa.select(replays.c.state, replays.c.counted, replays.c.replayed)).one())


@pytest.fixture
def run(places, queue, work):
    """Take every message, as workers do, until none is left; `before` is called ahead of each step of the replay."""

    def run(before=lambda: None):
        while queue.sent:
            job = queue.sent.pop(0)
            if isinstance(job, ReplayEvents):
                before()
                work_run(job.row_id, **places)
            elif isinstance(job, WorkEvents):
                work()

    return run


def test_run_sets_everything_back_in_batches_and_holds_no_thread(put, places, run, database, statuses):
    """LED-70, LED-19: each message is one batch, and the next one waits until the last was taken."""
    put(2 * BATCH + 7)
    most = []
    begin_run(DEAD, reason="the price was fixed", **places)
    run(lambda: most.append(statuses().count("pending")))
    assert state(database) == ("finished", 207, 207)
    assert set(statuses()) == {"done"}
    assert max(most) <= BATCH


def test_run_waits_while_its_batch_is_not_taken(put, places, queue, database, statuses):
    """LED-19"""
    put(2 * BATCH)
    replay_id = begin_run(DEAD, reason="r", **places)
    for _ in range(3):
        work_run(replay_id, **places)
    assert state(database) == ("running", 2 * BATCH, BATCH)
    assert statuses().count("pending") == BATCH


def test_stopped_run_sets_nothing_more_back(put, places, run, database, statuses):
    """LED-18"""
    put(2 * BATCH)
    replay_id = begin_run(DEAD, reason="r", **places)
    work_run(replay_id, **places)
    stop_run(replay_id, database=database, clock=places["clock"])
    run()
    assert state(database) == ("stopped", 2 * BATCH, BATCH)
    assert statuses().count("dead") == BATCH
    next_id = begin_run(DEAD, reason="the rest", **places)
    run()
    assert show_replay(next_id, database=database)["replayed"] == BATCH
    with pytest.raises(NotFound):
        stop_run(replay_id, database=database, clock=places["clock"])


def test_lost_message_is_the_sweeps_and_only_then(put, places, queue, run, database, clock, statuses):
    """LED-70: while the lease lasts a message is on its way, and a second one would double it."""
    put(3)
    begin_run(DEAD, reason="r", **places)
    queue.sent.clear()
    sweep(**places)
    assert queue.sent == []
    clock.advance(seconds=LEASE.total_seconds() + 1)
    sweep(**places)
    run()
    assert state(database) == ("finished", 3, 3)


def test_two_workers_set_each_event_back_once(put, places, database, clock, monkeypatch):
    """LED-70: the second has read the same place, and finds it changed."""
    put(2 * BATCH)
    replay_id = begin_run(DEAD, reason="r", **places)
    real, again = replay_store.set_back, []

    def meanwhile(connection, *args, **more):
        if not again:
            again.append(1)
            with database.engine.connect() as other:  # only PostgreSQL lets two in
                if connection.dialect.name == "postgresql":
                    del other
                    work_run(replay_id, **places)
        return real(connection, *args, **more)

    monkeypatch.setattr(replay_store, "set_back", meanwhile)
    work_run(replay_id, **places)
    with database.read() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(replayed_events))
    assert state(database)[2] == rows == BATCH


def test_second_operator_is_told_that_a_replay_runs(put, places, database):
    """LED-17: while it runs none of many is set back by another one; a single event of one's own may be."""
    put(2 * BATCH, type="invoice.paid")
    [mine] = put(status="done", type="customer.updated")
    with database.read() as connection:
        event_id = connection.scalar(sa.select(events.c.event_id).where(events.c.id == mine))
    work_run(begin_run(DEAD, reason="the price was fixed", **places), **places)
    with pytest.raises(ReplayRunning) as refused:
        begin_run(DEAD, reason="r", **places)
    assert "100 of 200 events so far; the price was fixed" in refused.value.sentence
    assert replay_few(EventFilter(event_ids=(event_id,)), reason="mine", **places).replayed == 1


def test_what_became_of_its_events(put, places, queue, run, stripe, database):
    """OPS-166: done, waiting, failing, given up again."""
    put(4)
    replay_id = begin_run(DEAD, reason="r", **places)
    work_run(replay_id, **places)
    assert show_replay(replay_id, database=database)["result"] == {"done": 0, "waiting": 4, "failing": 0, "dead": 0}
    with database.write() as connection:
        ids = list(connection.scalars(sa.select(events.c.id).order_by(events.c.id)))
        for row_id, values in zip(
            ids, ({"status": "done"}, {"status": "dead", "error": "no"}, {"attempts": 1, "error": "no"}), strict=False
        ):
            connection.execute(sa.update(events).where(events.c.id == row_id).values(values))
    assert show_replay(replay_id, database=database)["result"] == {"done": 1, "waiting": 1, "failing": 1, "dead": 1}


@pytest.mark.parametrize(
    ("chosen", "replayed"),
    [
        (EventFilter(types=("invoice.*", "customer.subscription.deleted")), 2),
        (EventFilter(customer_id="cus_me"), 1),
        (EventFilter(status=EventStatus.DONE), 1),
        (EventFilter(since=NOON - HOUR, until=NOON + HOUR), 2),
        (EventFilter(status=EventStatus.DEAD, since=NOON), 2),
        (EventFilter(event_ids=("evt_chosen",)), 1),
    ],
)
def test_filter_means_the_same_to_the_worker(put, places, run, database, chosen, replayed):
    """LED-70: it goes through the row."""
    put(1, type="customer.subscription.deleted", received_at=NOON - 50 * HOUR)
    put(1, type="customer.updated", customer="cus_me", received_at=NOON)
    put(1, type="customer.updated", event_id="evt_chosen", received_at=NOON)
    put(1, type="invoice.paid", status="done", received_at=NOON + 50 * HOUR)
    begin_run(chosen, reason="r", **places)
    run()
    assert state(database) == ("finished", replayed, replayed)
