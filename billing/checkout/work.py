"""The checkout protocol, the worker's half: bring one lane to rest (specs/lanes.md).

The numbers are the protocol's steps; each is a crash point. `work_lane` run again goes on from the lane row, on any
machine, with or without the lock. The row is the truth, the lock a hint, and Stripe the source. No transaction is open
across a call to Stripe or while waiting for the lock.
"""

from datetime import datetime, timedelta

import structlog

from billing.checkout import checkout_store, lane_store
from billing.checkout.context import Context
from billing.checkout.lane_store import Snapshot
from billing.checkout.rules import BACKOFF, Checkout, Lane
from billing.checkout.steps import answer, begin, close_session, create
from billing.coordination.jobs import WorkLane
from billing.coordination.locks import lock_name
from billing.errors import LedgerUnavailable, StripeMisconfigured, StripeRefused, TransientError
from billing.models import CheckoutStatus, LaneState
from billing.rules.backoff import is_failure

log = structlog.get_logger(__name__)

# A lane comes to rest in at most nine rounds: closing, closed, creating and open, for a checkout and for one that
# supersedes it, and a last read. A lane with more rounds gives its slot to others. Each time it waits longer, since
# only an answer clears its failures: so no loop creates sessions without end.
MOST_ROUNDS = 25
# Of many equal checkouts at once the first has a pass, and those that arrive meanwhile have the next one together. With
# 0.1 s, about the time of a call to Stripe, a hundred cost two or three passes.
GATHER_SECONDS = 0.1
# More than a double click, the last of it just now: more requests are on their way. A pass costs three reads at Stripe
# and serves every checkout that came before it. So it waits until none came for GATHER_SECONDS, a second at most.
CROWD, LONGEST_GATHERING = 3, timedelta(seconds=1)


def work_lane(lane_id: int, ctx: Context) -> bool:
    """Answer the pending checkouts of a lane and finish what a crashed worker began; False where a failure was noted.

    1 take the lock; 2 read; closed: 3, 4; creating: 5, 6; open: 7, 8, 9; closing: 10, 11; and again until at rest.
    Nothing of Stripe's is raised: a failure is noted on the lane and tried again later. Raises LedgerUnavailable.
    """
    job = WorkLane(lane_id)
    with ctx.locks.hold(lock_name(lane_id)) as lease:  # 1 (LAN-19)
        if lease is None:
            ctx.put_back(job)
            return True
        try:
            snapshot = _read(lane_id, ctx)
            if snapshot is None or (snapshot.newest is None and _is_settled(snapshot.lane)):
                return True
            if (wait := BACKOFF.seconds_left(snapshot.lane.next_attempt_at, now=ctx.clock.now())) > 0:
                ctx.send_later(job, wait)
                return True
            for _ in range(MOST_ROUNDS):
                if lease.lapsed:
                    ctx.queue.send(job)
                    return True
                if snapshot is not None and _is_arriving(snapshot, now=ctx.clock.now()):
                    ctx.queue.send(job, delay_seconds=GATHER_SECONDS)
                    return True
                if snapshot is None or not _round(snapshot, ctx):
                    _send_for_the_rest(job, ctx)
                    return True
                snapshot = _read(lane_id, ctx)
            unsettled = TransientError("The lane did not come to rest. Others have their turn first.")
            ctx.send_later(job, _postpone(lane_id, unsettled, ctx))
        except LedgerUnavailable:
            raise
        except TransientError as error:
            ctx.send_later(job, _postpone(lane_id, error, ctx))
        except (StripeRefused, StripeMisconfigured) as error:
            _give_up(lane_id, error, ctx)
        except Exception:  # a bug, or an unknown answer: the task logs and counts it
            _postpone(lane_id, TransientError("The worker failed at this lane. It will be tried again."), ctx)
            raise
    return False


def _read(lane_id: int, ctx: Context) -> Snapshot | None:
    """Step 2: the lane first, then its pending checkouts (LAN-3); None when there is no such lane."""
    with ctx.database.read() as connection:
        return lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())


def _round(snapshot: Snapshot, ctx: Context) -> bool:
    """Take the steps of the lane's state; whether the lane has to be read again."""
    newest = snapshot.newest
    if snapshot.supersedes or (snapshot.lane.failures and newest is None and _is_settled(snapshot.lane)):
        _tidy(snapshot, newest, ctx)
    ids = {"checkout_id": newest.id} if newest else {}
    with structlog.contextvars.bound_contextvars(**ids):
        return _step(snapshot, newest, ctx)


def _step(snapshot: Snapshot, newest: Checkout | None, ctx: Context) -> bool:
    match snapshot.lane.state:
        case LaneState.CREATING:
            return create(snapshot, ctx)
        case LaneState.CLOSING:
            return close_session(snapshot, ctx)
        case LaneState.CLOSED:
            return newest is not None and begin(snapshot, newest, ctx)
        case LaneState.OPEN:
            return newest is not None and answer(snapshot, newest, ctx)


def _is_arriving(snapshot: Snapshot, now: datetime) -> bool:
    """Whether many checkouts are arriving that one pass could answer (LAN-24). Clocks that differ only cost passes."""
    if snapshot.lane.state is not LaneState.OPEN or len(snapshot.waiting) < CROWD:
        return False
    first, last = (now - snapshot.waiting[index].arrived_at for index in (0, -1))
    return first < LONGEST_GATHERING and timedelta() <= last < timedelta(seconds=GATHER_SECONDS)


def _send_for_the_rest(job: WorkLane, ctx: Context) -> None:
    """Checkouts that arrived during this pass get the next one, with those that arrive until then (LAN-23)."""
    with ctx.database.read() as connection:
        waiting = checkout_store.has_waiting(connection, job.row_id)
    if waiting:
        ctx.queue.send(job, delay_seconds=GATHER_SECONDS)


def _tidy(snapshot: Snapshot, newest: Checkout | None, ctx: Context) -> None:
    """Supersede what the newest replaces, or clear the failures of a lane at rest. Seldom: a round mostly reads."""
    with ctx.database.write() as connection:
        superseded = checkout_store.supersede_older(connection, newest) if newest else []
        if newest is None:
            lane_store.clear_failures(connection, snapshot.lane.id)
    ctx.wakeups.wake(superseded)


def _is_settled(lane: Lane) -> bool:
    """Whether the lane can stay as it is while no checkout is pending."""
    return lane.state in (LaneState.CLOSED, LaneState.OPEN)


def _postpone(lane_id: int, error: TransientError, ctx: Context) -> float:
    """Note the failure; the seconds until the next try."""
    with ctx.database.write() as connection:
        lane = lane_store.read_lane(connection, lane_id)
        wait = BACKOFF.wait_seconds(lane.failures if lane else 0, error)
        until = ctx.clock.now() + timedelta(seconds=wait)
        lane_store.postpone(connection, lane_id, code=error.code, until=until, counted=is_failure(error))
    log.warning("lane.postponed", lane_id=lane_id, code=error.code, seconds=round(wait, 2), reason=error.sentence)
    return wait


def _give_up(lane_id: int, error: StripeRefused | StripeMisconfigured, ctx: Context) -> None:
    """Stripe refuses a read or an expiry: fail the pending checkouts; the sweep finishes an unfinished lane."""
    with ctx.database.write() as connection:
        lane = lane_store.read_lane(connection, lane_id)
        failed = checkout_store.turn_down(
            connection, lane_id, status=CheckoutStatus.FAILED, error=error.record, now=ctx.clock.now()
        )
        if lane and not _is_settled(lane):
            until = ctx.clock.now() + BACKOFF.longest
            lane_store.postpone(connection, lane_id, code=error.code, until=until)
    log.error("lane.refused", lane_id=lane_id, code=error.code, reason=error.sentence, checkouts=len(failed))
    ctx.wakeups.wake(failed)
