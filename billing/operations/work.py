"""Operations, the worker's half: finish what a lane's buyer asked for, one operation at a time, oldest first.

1 take the customer lock, the one that checkouts take (a hint)  2 read the oldest pending operation  3 a call is
planned: send it with its key, note the answer, again  4 look at Stripe  5 decide: plan the next call in the row, again;
or 6 sync the customer and end the operation, in one commit.
Each number is a crash point; the next run goes on from the row. A planned call is always sent before anything else is
decided, also when Stripe looks finished. So its key is used up: a worker that slept before it sent the call can only
get the old answer again (SUB-30).
"""

from datetime import timedelta

import structlog

from billing.checkout.context import Context
from billing.coordination.jobs import WorkOperations
from billing.coordination.locks import lock_name
from billing.errors import (
    LedgerUnavailable,
    OnelaneError,
    StripeMisconfigured,
    StripeRefused,
    TransientError,
)
from billing.models import OperationStatus
from billing.operations import store as operations_store
from billing.operations.calls import Kind, Sent, Write
from billing.operations.steps import change, end, plan_next, send_planned
from billing.operations.store import BACKOFF, Operation
from billing.rules.backoff import is_failure

log = structlog.get_logger(__name__)

# An operation is at most four calls (release, schedule, phases, release), two rounds each. A lane with more rounds
# gives its slot to others.
MOST_ROUNDS = 30


def work_operations(lane_id: int, ctx: Context) -> bool:
    """Work this lane's operations until none is due; False where a failure was noted.

    Nothing of Stripe's is raised: a failure is noted on the operation and tried again later. Raises LedgerUnavailable.
    """
    job = WorkOperations(lane_id)
    if (wait := _seconds_until_due(lane_id, ctx)) is None:
        return True
    if wait > 0:
        ctx.send_later(job, wait)
        return True
    with ctx.locks.hold(lock_name(lane_id)) as lease:  # 1
        if lease is None:
            ctx.put_back(job)
            return True
        failures: list[str] = []
        for _ in range(MOST_ROUNDS):
            if lease.lapsed:
                break
            if not _round(lane_id, job, failures, ctx):
                return not failures
    ctx.queue.send(job)
    return not failures


def _round(lane_id: int, job: WorkOperations, failures: list[str], ctx: Context) -> bool:
    """Steps 2 to 6 once; whether to go again. The code of what fails is added to `failures`."""
    read_at = ctx.clock.now()
    with ctx.database.read() as connection:  # 2
        operation = operations_store.oldest_pending(connection, lane_id)
        owner = operations_store.find_customer(connection, lane_id)
    if operation is None or owner is None or BACKOFF.seconds_left(operation.next_attempt_at, now=ctx.clock.now()) > 0:
        return False
    try:
        with structlog.contextvars.bound_contextvars(operation_id=operation.id, customer_id=owner[1]):
            if operation.call is not None:
                send_planned(operation, read_at, ctx)
            else:
                plan_next(operation, owner[1], ctx)
    except LedgerUnavailable:
        raise
    except (StripeRefused, StripeMisconfigured) as error:
        failures.append(error.code)
        _fail(operation, error, ctx)
    except TransientError as error:
        failures.append(error.code)
        ctx.send_later(job, _postpone(operation, error, ctx))
        return False
    except Exception:  # a bug, or an unknown answer: the task logs and counts it
        _postpone(operation, TransientError("The worker failed at this operation. It will be tried again."), ctx)
        raise
    return True


def _fail(operation: Operation, error: StripeRefused | StripeMisconfigured, ctx: Context) -> None:
    """Stripe refuses. Where it refused a write of ours, the operation's earlier writes are taken back first."""
    if operation.call is None and operation.sent and operation.failure is None:
        # What the buyer asked for was done; Stripe refuses a read only. That is no failure of the operation.
        _postpone(operation, error, ctx)
        return
    if operation.failure is not None and isinstance(error, StripeMisconfigured):
        _postpone(operation, error, ctx)  # what it left at Stripe has to go, once the operator has mended the key
        return
    failure = error.record
    if operation.call is not None and operation.call["name"] == Write.RELEASE:
        kept = "The planned change of plan could not be taken back, so nothing else was changed."
        failure["detail"] = f"{kept} {failure['detail']}"
    log.warning("operation.stripe_refused", operation_id=operation.id, code=error.code, reason=error.sentence)
    if operation.call is not None and operation.failure is None and operation.kind is Kind.SWITCH:
        change(operation, ctx, call=None, failure=failure)
    elif operation.call is not None and operation.kind is Kind.CANCEL:  # the product's other subscriptions still end
        call = operation.call
        refused = Sent(call["name"], call.get("subscription_id"), refused=failure)
        change(operation, ctx, call=None, sent=[*operation.sent, refused])
    else:
        end(operation, OperationStatus.FAILED, dict(operation.failure or failure), ctx)


def _postpone(operation: Operation, error: OnelaneError, ctx: Context) -> float:
    """Note the failure; the seconds until the next try."""
    wait = BACKOFF.wait_seconds(operation.failures, error)
    with ctx.database.write() as connection:
        until = ctx.clock.now() + timedelta(seconds=wait)
        operations_store.postpone(connection, operation, code=error.code, until=until, counted=is_failure(error))
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
    return None if operation is None else BACKOFF.seconds_left(operation.next_attempt_at, now=ctx.clock.now())
