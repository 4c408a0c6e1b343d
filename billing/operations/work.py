"""Operations, the worker's half: finish what a lane's buyer asked for, one operation at a time, oldest first.

1 take the customer lock, the one that checkouts take (a hint)  2 read the oldest pending operation  3 a call is
planned: send it with its key, note the answer, again  4 look at Stripe  5 decide: plan the next call in the row, again;
or 6 sync the customer and end the operation, in one commit.
Each number is a crash point; whoever runs it again goes on from the row. What was planned is always sent before
anything else is decided, also when Stripe looks finished: so its key is used up, and a worker that slept with it in
hand can only ever get the old answer again (SUB-30).
"""

import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.clock import Clock
from billing.database import Database
from billing.errors import (
    LedgerUnavailable,
    OnelaneError,
    StripeMisconfigured,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
    TransientError,
)
from billing.jobs import RemedyDuplicates, WorkOperations
from billing.locks import Locks
from billing.models import OperationStatus
from billing.operations import store as operations_store
from billing.operations.calls import lifetime, send
from billing.operations.decide import Call, Done, Kind, Refusal, Write, decide
from billing.operations.snapshot import is_going_on, look
from billing.operations.store import LONGEST_BACKOFF, Operation
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.sync import sync_customer
from billing.wakeups import Wakeups

log = structlog.get_logger(__name__)

# An operation is at most four calls (release, schedule, phases, release), two rounds each; the rest waits its turn.
MOST_ROUNDS = 30
LOCK_JITTER_SECONDS = (0.1, 0.4)
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, LONGEST_BACKOFF.total_seconds()
LONGEST_DELAY_SECONDS = 10.0  # up to here a delayed message, beyond it the sweep
# 15 s: a call at its 10 s timeout, plus slack. Whoever slept longer between reading the row and sending reads again.
READ_LASTS = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Context:
    database: Database
    stripe: StripeGateway
    queue: Queue
    wakeups: Wakeups
    clock: Clock
    catalog: Catalog


def work_operations(
    lane_id: int,
    *,
    database: Database,
    stripe: StripeGateway,
    locks: Locks,
    queue: Queue,
    wakeups: Wakeups,
    clock: Clock,
    catalog: Catalog,
) -> None:
    """Work this lane's operations until none is due.

    Nothing of Stripe's is raised: a failure is noted on the operation and tried again later. Raises LedgerUnavailable.
    """
    ctx = Context(database, stripe, queue, wakeups, clock, catalog)
    job = WorkOperations(lane_id)
    if (wait := _seconds_until_due(lane_id, ctx)) is None:
        return
    if wait > 0:
        _send_later(job, wait, queue)
        return
    with locks.hold(f"lane:{lane_id}") as lease:  # 1
        if lease is None:
            queue.send(job, delay_seconds=random.uniform(*LOCK_JITTER_SECONDS))  # noqa: S311 (jitter)
            return
        for _ in range(MOST_ROUNDS):
            if lease.lapsed:
                break
            if not _round(lane_id, job, ctx):
                return
    queue.send(job)


def _round(lane_id: int, job: WorkOperations, ctx: Context) -> bool:
    """Steps 2 to 6 once; whether to go again."""
    since = ctx.clock.now()
    with ctx.database.read() as connection:  # 2
        operation = operations_store.oldest_pending(connection, lane_id)
        owner = operations_store.find_customer(connection, lane_id)
    if operation is None or owner is None or _left(operation, ctx.clock.now()) > 0:
        return False
    try:
        if operation.call is not None:
            _send(operation, since, ctx)
        else:
            _go_on(operation, owner[1], ctx)
    except LedgerUnavailable:
        raise
    except (StripeRefused, StripeMisconfigured) as error:
        _fail(operation, error, ctx)
    except TransientError as error:
        _send_later(job, _postpone(operation, error, ctx), ctx.queue)
        return False
    except Exception:  # a bug, or an answer that nobody foresaw: heard of by whoever watches the worker
        _postpone(operation, TransientError("The worker failed at this operation. It will be tried again."), ctx)
        raise
    return True


def _send(operation: Operation, since: datetime, ctx: Context) -> None:
    """Step 3: the planned write, with its key; its answer is noted, whatever Stripe looks like by now."""
    call = operation.call
    assert call is not None, "the caller looked"
    now = ctx.clock.now()
    if abs(now - datetime.fromisoformat(call["planned_at"])) > lifetime(call):
        _change(operation, ctx, call=sa.null(), sent=[*operation.sent, call["name"]])  # too old to send: look anew
        return
    if abs(now - since) > READ_LASTS:
        return  # slept in between: read again
    try:
        url = send(call, stripe=ctx.stripe)
    except StripeRefused:
        about = operation.subscription_id
        if about and not is_going_on(or_none(ctx.stripe.get_subscription, about)):
            _change(operation, ctx, call=sa.null())  # it has ended meanwhile: look anew
            return
        raise
    except StripeSavedFailure as failure:
        if not failure.replayed:
            raise  # Stripe will say the same again, marked as a replay, if it has kept it
        _change(operation, ctx, call=sa.null(), sent=[*operation.sent, call["name"]])
        return
    log.info("operation.sent", operation_id=operation.id, call=call["name"])
    if url is not None:
        _end(operation, OperationStatus.SUCCEEDED, None, ctx, url=url)
        return
    _change(operation, ctx, call=sa.null(), sent=[*operation.sent, call["name"]], failures=0, last_error=None)


def _go_on(operation: Operation, customer_id: str | None, ctx: Context) -> None:
    """Steps 4 to 6: look, decide, and plan the next write or end it."""
    seen = look(operation, customer_id, database=ctx.database, stripe=ctx.stripe, clock=ctx.clock, catalog=ctx.catalog)
    if seen is None:
        refused = Refusal("no_subscription", "This user has no subscription to this product.", {})
        _conclude(operation, refused, customer_id, ctx)
        return
    step = decide(
        operation.kind,
        operation.request,
        seen,
        sent=operation.sent,
        failed=operation.failure is not None,
        catalog=ctx.catalog,
        now=ctx.clock.now(),
    )
    if not isinstance(step, Call):
        _conclude(operation, step, customer_id, ctx)
        return
    planned = {
        "name": step.name,
        "target": step.target,
        "parameters": step.parameters,
        "key": f"onelane-{uuid.uuid4()}",
        "planned_at": ctx.clock.now().isoformat(),
    }
    subscription_id = str(seen.subscription["id"]) if seen.subscription else None
    # What was sent was sent to the one that has ended since.
    moved: dict[str, Any] = {"sent": []} if operation.subscription_id not in (None, subscription_id) else {}
    _change(operation, ctx, call=planned, subscription_id=subscription_id, **moved)  # 5, the write-ahead


def _conclude(operation: Operation, step: Done | Refusal, customer_id: str | None, ctx: Context) -> None:
    """Step 6: the operation ends with the projection that shows its effect, in one commit (SUB-36)."""
    error: dict[str, Any] | None = None
    status = OperationStatus.SUCCEEDED
    if operation.failure is not None:
        status, error = OperationStatus.FAILED, dict(operation.failure)
    elif isinstance(step, Refusal):
        status, error = OperationStatus.REFUSED, {"code": step.code, "detail": step.detail, **step.extra}
    if customer_id is None or operation.kind is Kind.PORTAL:
        _end(operation, status, error, ctx)
        return
    ended = False

    def end(connection: sa.Connection) -> None:
        nonlocal ended
        ended = operations_store.finish(connection, operation, status, now=ctx.clock.now(), error=error)

    sync_customer(
        customer_id,
        database=ctx.database,
        stripe=ctx.stripe,
        clock=ctx.clock,
        catalog=ctx.catalog,
        with_customer=False,
        subscriptions=[operation.subscription_id] if operation.subscription_id else [],
        then=end,
        on_duplicates=lambda incident_id: ctx.queue.send(RemedyDuplicates(incident_id)),
    )
    if ended:
        _tell(operation, status, error, ctx)


def _end(
    operation: Operation, status: OperationStatus, error: dict[str, Any] | None, ctx: Context, *, url: str | None = None
) -> None:
    with ctx.database.write() as connection:
        ended = operations_store.finish(connection, operation, status, now=ctx.clock.now(), error=error, url=url)
    if ended:
        _tell(operation, status, error, ctx)


def _tell(operation: Operation, status: OperationStatus, error: dict[str, Any] | None, ctx: Context) -> None:
    code = error["code"] if error else None
    log.info("operation.finished", operation_id=operation.id, kind=operation.kind.value, status=status.value, code=code)
    ctx.wakeups.wake([operation.id])


def _change(operation: Operation, ctx: Context, **values: Any) -> None:
    """One compare-and-set; who lost it just goes again."""
    with ctx.database.write() as connection:
        if not operations_store.change(connection, operation, **values):
            log.info("operation.moved_on", operation_id=operation.id)


def _fail(operation: Operation, error: StripeRefused | StripeMisconfigured, ctx: Context) -> None:
    """Stripe says no. Where a write of ours was refused, its earlier ones are taken back first."""
    if operation.call is None and operation.sent and operation.failure is None:
        # The buyer's wish was carried out; only looking is refused. That is no failure of the operation.
        _postpone(operation, error, ctx)
        return
    if operation.failure is not None and isinstance(error, StripeMisconfigured):
        _postpone(operation, error, ctx)  # what it left at Stripe has to go, once the operator has mended the key
        return
    words = error.sentence
    if operation.call is not None and operation.call["name"] == Write.RELEASE:
        words = f"The planned change of plan could not be taken back, so nothing else was changed. {words}"
    failure = {"code": error.code, "detail": words}
    log.warning("operation.stripe_refused", operation_id=operation.id, code=error.code, reason=error.sentence)
    if operation.call is not None and operation.failure is None and operation.kind is Kind.SWITCH:
        _change(operation, ctx, call=sa.null(), failure=failure)
    else:
        _end(operation, OperationStatus.FAILED, dict(operation.failure or failure), ctx)


def _postpone(operation: Operation, error: OnelaneError, ctx: Context) -> float:
    """Note the failure; the seconds until the next try: doubling, jittered, at least what Stripe asked for."""
    wait = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(operation.failures, 12))
    wait *= random.uniform(0.5, 1)  # noqa: S311 (jitter)
    if isinstance(error, StripeUnclear) and error.retry_after:
        wait = max(wait, min(error.retry_after, LONGEST_BACKOFF_SECONDS))
    with ctx.database.write() as connection:
        until = ctx.clock.now() + timedelta(seconds=wait)
        operations_store.postpone(connection, operation, code=error.code, until=until)
    log.warning(
        "operation.postponed",
        operation_id=operation.id,
        code=error.code,
        seconds=round(wait, 2),
        reason=error.sentence,
    )
    return wait


def _seconds_until_due(lane_id: int, ctx: Context) -> float | None:
    """How long the oldest operation still has to wait; None when there is none."""
    with ctx.database.read() as connection:
        operation = operations_store.oldest_pending(connection, lane_id)
    return None if operation is None else _left(operation, ctx.clock.now())


def _left(operation: Operation, now: datetime) -> float:
    """A time further ahead than any backoff was set by a machine whose clock is wrong."""
    left = (operation.next_attempt_at or now) - now
    return left.total_seconds() if timedelta() < left <= LONGEST_BACKOFF else 0.0


def _send_later(job: WorkOperations, seconds: float, queue: Queue) -> None:
    if seconds <= LONGEST_DELAY_SECONDS:
        queue.send(job, delay_seconds=seconds)
