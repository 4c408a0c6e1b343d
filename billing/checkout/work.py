"""The checkout protocol, the worker's half: bring one lane to rest (specs/lanes.md).

The numbers are the protocol's steps; each is a crash point. Whoever runs `work_lane` again, here or on another
machine, with or without the lock, goes on from the lane row: that row is the truth, the lock is a hint,
Stripe is the source. No transaction is open across a call to Stripe or while waiting for the lock.
"""

import random
from datetime import datetime, timedelta

import structlog

from billing.catalog import Catalog
from billing.checkout import lane_store
from billing.checkout.lane_store import Snapshot
from billing.checkout.rules import LONGEST_BACKOFF, Checkout, Lane, seconds_until_due
from billing.checkout.steps import Context, answer, begin, close_session, create
from billing.clock import Clock
from billing.database import Database
from billing.errors import LedgerUnavailable, StripeMisconfigured, StripeRefused, StripeUnclear, TransientError
from billing.jobs import WorkLane
from billing.locks import Locks
from billing.models import CheckoutStatus, LaneState
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.wakeups import Wakeups

log = structlog.get_logger(__name__)

# A lane comes to rest in at most nine rounds (closing, closed, creating, open, for a checkout and one that
# supersedes it, and one to see that nothing waits); more means a hot lane: let others have the slot. Hot for no
# good reason, it waits longer each time, since only an answer forgets its failures: no loop creates without end.
MOST_ROUNDS = 25
# A lock is given back within seconds; what has to wait longer waits in SQL for the sweep (every 30 s).
LOCK_JITTER_SECONDS = (0.1, 0.4)
LONGEST_DELAY_SECONDS = 10.0
# Of many equal checkouts at once the first has a pass, and those who come while it runs have one together: gathered
# for about the time of a call to Stripe, a hundred cost two or three looks, and no slot is held for it.
GATHER_SECONDS = 0.1
# More than a double click, the last of it just now: requests that are still coming in. Each look of ours costs three
# reads and serves whoever came before it, so the look waits until nobody came for GATHER_SECONDS, a second at most.
CROWD, LONGEST_GATHERING = 3, timedelta(seconds=1)
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, LONGEST_BACKOFF.total_seconds()


def work_lane(
    lane_id: int,
    *,
    database: Database,
    stripe: StripeGateway,
    locks: Locks,
    queue: Queue,
    wakeups: Wakeups,
    clock: Clock,
    catalog: Catalog,
    reuse_seconds: int,
) -> None:
    """Answer the pending checkouts of a lane and finish what a crashed worker began.

    1 take the lock; 2 read; closed: 3, 4; creating: 5, 6; open: 7, 8, 9; closing: 10, 11; and again until at rest.
    Nothing of Stripe's is raised: a failure is noted on the lane and tried again later. Raises LedgerUnavailable.
    """
    ctx = Context(database, stripe, wakeups, clock, catalog, reuse_seconds)
    job = WorkLane(lane_id)
    with locks.hold(f"lane:{lane_id}") as lease:  # 1 (LAN-19)
        if lease is None:
            queue.send(job, delay_seconds=random.uniform(*LOCK_JITTER_SECONDS))  # noqa: S311 (jitter)
            return
        try:
            seen = _look(lane_id, ctx)
            if seen is None or (seen.newest is None and _is_settled(seen.lane)):
                return
            if (wait := seconds_until_due(seen.lane, now=clock.now())) > 0:
                _send_later(job, wait, queue)
                return
            for _ in range(MOST_ROUNDS):
                if lease.lapsed:
                    queue.send(job)
                    return
                if seen is not None and _is_arriving(seen, now=clock.now()):
                    queue.send(job, delay_seconds=GATHER_SECONDS)
                    return
                if seen is None or not _round(seen, ctx):
                    _send_for_the_rest(job, ctx, queue)
                    return
                seen = _look(lane_id, ctx)
            hot = TransientError("The lane did not come to rest. Others have their turn first.")
            _send_later(job, _postpone(lane_id, hot, ctx), queue)
        except LedgerUnavailable:
            raise
        except TransientError as error:
            _send_later(job, _postpone(lane_id, error, ctx), queue)
        except (StripeRefused, StripeMisconfigured) as error:
            _give_up(lane_id, error, ctx)
        except Exception:  # a bug, or an answer that nobody foresaw: heard of by whoever watches the worker
            _postpone(lane_id, TransientError("The worker failed at this lane. It will be tried again."), ctx)
            raise


def _look(lane_id: int, ctx: Context) -> Snapshot | None:
    """Step 2: the lane first, then who waits (LAN-3); none when there is no such lane."""
    with ctx.database.read() as connection:
        return lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())


def _round(seen: Snapshot, ctx: Context) -> bool:
    """Take the steps of the lane's state; whether to look again."""
    mine = seen.newest
    if seen.outdone or (seen.lane.failures and mine is None and _is_settled(seen.lane)):
        _tidy(seen, mine, ctx)
    match seen.lane.state:
        case LaneState.CREATING:
            return create(seen, ctx)
        case LaneState.CLOSING:
            return close_session(seen, ctx)
        case LaneState.CLOSED:
            return mine is not None and begin(seen, mine, ctx)
        case LaneState.OPEN:
            return mine is not None and answer(seen, mine, ctx)


def _is_arriving(seen: Snapshot, now: datetime) -> bool:
    """Whether a crowd is coming in that one look could answer whole (LAN-24); clocks that differ only cost looks."""
    if seen.lane.state is not LaneState.OPEN or len(seen.waiting) < CROWD:
        return False
    first, last = (now - seen.waiting[which].arrived_at for which in (0, -1))
    return first < LONGEST_GATHERING and timedelta() <= last < timedelta(seconds=GATHER_SECONDS)


def _send_for_the_rest(job: WorkLane, ctx: Context, queue: Queue) -> None:
    """Whoever arrived during this pass gets the next one, together with who comes meanwhile (LAN-23)."""
    with ctx.database.read() as connection:
        waits = lane_store.has_waiting(connection, job.row_id)
    if waits:
        queue.send(job, delay_seconds=GATHER_SECONDS)


def _tidy(seen: Snapshot, mine: Checkout | None, ctx: Context) -> None:
    """Supersede what `mine` outdoes, or forget the failures of a lane at rest; seldom, so that a look only reads."""
    with ctx.database.write() as connection:
        superseded = lane_store.supersede_older(connection, mine) if mine else []
        if mine is None:
            lane_store.rested(connection, seen.lane.id)
    ctx.wakeups.wake(superseded)


def _is_settled(lane: Lane) -> bool:
    """Whether the lane can stay as it is when nobody waits."""
    return lane.state in (LaneState.CLOSED, LaneState.OPEN)


def _postpone(lane_id: int, error: TransientError, ctx: Context) -> float:
    """Note the failure; the seconds until the next try: doubling, jittered, at least what Stripe asked for."""
    with ctx.database.write() as connection:
        lane = lane_store.read_lane(connection, lane_id)
        doubled = FIRST_BACKOFF_SECONDS * 2.0 ** min(lane.failures if lane else 0, 10)
        wait = min(LONGEST_BACKOFF_SECONDS, doubled) * random.uniform(0.5, 1)  # noqa: S311 (jitter)
        if isinstance(error, StripeUnclear) and error.retry_after:
            wait = max(wait, min(error.retry_after, LONGEST_BACKOFF_SECONDS))
        until = ctx.clock.now() + timedelta(seconds=wait)
        lane_store.postpone(connection, lane_id, code=error.code, until=until)
    log.warning("lane.postponed", lane_id=lane_id, code=error.code, seconds=round(wait, 2), reason=error.sentence)
    return wait


def _give_up(lane_id: int, error: StripeRefused | StripeMisconfigured, ctx: Context) -> None:
    """Stripe refuses to be read or to expire: fail who waits; an unfinished lane is left to the sweep."""
    reason = {"code": error.code, "detail": error.sentence}
    with ctx.database.write() as connection:
        lane = lane_store.read_lane(connection, lane_id)
        failed = lane_store.turn_down(
            connection, lane_id, status=CheckoutStatus.FAILED, error=reason, now=ctx.clock.now()
        )
        if lane and not _is_settled(lane):
            until = ctx.clock.now() + timedelta(seconds=LONGEST_BACKOFF_SECONDS)
            lane_store.postpone(connection, lane_id, code=error.code, until=until)
    log.error("lane.refused", lane_id=lane_id, code=error.code, reason=error.sentence, checkouts=len(failed))
    ctx.wakeups.wake(failed)


def _send_later(job: WorkLane, seconds: float, queue: Queue) -> None:
    """A short wait is the queue's, a long one the sweep's."""
    if seconds <= LONGEST_DELAY_SECONDS:
        queue.send(job, delay_seconds=seconds)
