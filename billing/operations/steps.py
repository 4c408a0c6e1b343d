"""The operations' steps 3 to 6: send what is planned, look at Stripe, decide, and plan the next write or end it.

Every write carries the idempotency key from the row, so that sending it again is the same write, by any worker. A
refusal is never judged by its text: what Stripe says of the object afterwards decides.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from billing.checkout.context import Context
from billing.checkout.refusal import by_currency
from billing.errors import NotTakenBack, StripeMisconfigured, StripeRefused, StripeSavedFailure
from billing.models import OperationStatus
from billing.operations import store as operations_store
from billing.operations.calls import NO_SUBSCRIPTION, RUNNING, Call, Done, Kind, Refusal, Sent, Snapshot, Write, names
from billing.operations.decide import decide
from billing.operations.snapshot import is_going_on, take_snapshot
from billing.operations.store import Operation
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.sync import sync_customer

log = structlog.get_logger(__name__)

# Stripe keeps keys for at least 24 h; 4 h for clocks. An older call is not sent again: its effect is looked at instead.
KEY_LIFETIME = timedelta(hours=20)
# A portal session that was opened minutes ago may have ended: a new one is opened instead.
PORTAL_KEY_LIFETIME = timedelta(minutes=2)
# With one of these an operation failed. With any other code it does not apply to this user, and is refused.
_OF_STRIPE = (StripeRefused.code, StripeMisconfigured.code)
# 15 s: a call at its 10 s timeout, plus slack. A worker that slept longer between the row and the call reads again.
READ_LASTS = timedelta(seconds=15)


def send_planned(operation: Operation, read_at: datetime, ctx: Context) -> None:
    """Step 3: send the planned write with its key, and note its answer, whatever Stripe looks like by now."""
    call = operation.call
    assert call is not None, "the caller looked"
    now = ctx.clock.now()
    answered: dict[str, Any] = {"call": None, "sent": [*operation.sent, _as_sent(call)]}
    lifetime = PORTAL_KEY_LIFETIME if call["name"] == Write.PORTAL else KEY_LIFETIME
    if abs(now - datetime.fromisoformat(call["planned_at"])) > lifetime:
        change(operation, ctx, **answered)  # too old to send: look at Stripe again
        return
    if abs(now - read_at) > READ_LASTS:
        return  # slept in between: read again
    try:
        url = send(call, stripe=ctx.stripe)
    except StripeRefused as refused:
        if _is_overtaken(call, ctx):
            change(operation, ctx, call=None)  # look at Stripe again
            return
        raise _explained(refused, operation, ctx) from None
    except StripeSavedFailure as failure:
        if not failure.replayed:
            raise  # the next try with this key shows whether Stripe saved it: then it is marked as a replay
        change(operation, ctx, **answered)
        return
    log.debug("operation.sent", operation_id=operation.id, call=call["name"])
    if url is not None:
        end(operation, OperationStatus.SUCCEEDED, None, ctx, url=url)
        return
    change(operation, ctx, **answered, failures=0, last_error=None)


def send(call: Mapping[str, Any], *, stripe: StripeGateway) -> str | None:
    """Send a planned write; the address for a portal session. Raises the gateway's errors where it had no effect."""
    target, parameters, key = call["target"], call["parameters"], call["key"]
    match Write(call["name"]):
        case Write.RELEASE:
            _release(target, key, stripe)
        case Write.CANCEL | Write.REACTIVATE:
            stripe.update_subscription(target, parameters, idempotency_key=key)
        case Write.SCHEDULE:
            stripe.create_schedule(parameters, idempotency_key=key)
        case Write.PHASES:
            stripe.update_schedule(target, parameters, idempotency_key=key)
        case Write.PORTAL:
            return stripe.create_portal_session(parameters, idempotency_key=key)
    return None


def _as_sent(call: Mapping[str, Any]) -> Sent:
    ends_at = call["parameters"].get("cancel_at") if call["name"] == Write.CANCEL else None
    return Sent(call["name"], call.get("subscription_id"), ends_at=ends_at, term=call.get("term"))


def _is_overtaken(call: Mapping[str, Any], ctx: Context) -> bool:
    """Whether Stripe refused it because time went on: the subscription has ended, or its period has."""
    ends_at = call["parameters"].get("cancel_at") if call["name"] == Write.CANCEL else None
    if ends_at is not None and ends_at <= ctx.stripe.now().timestamp():
        return True
    subscription_id = call.get("subscription_id")
    return subscription_id is not None and not is_going_on(or_none(ctx.stripe.get_subscription, subscription_id))


def _explained(refused: StripeRefused, operation: Operation, ctx: Context) -> StripeRefused:
    """SUB-82, SUB-87: Stripe may not take back what runs; the plan may have another currency than the subscription."""
    call, plan = operation.call, ctx.catalog.plans.get(operation.request.get("plan", ""))
    if call is None or call["name"] != Write.PHASES or plan is None:
        return refused
    if (refused.param or "").startswith("phases[0]"):
        stripe_code = refused.stripe_code
        return NotTakenBack(refused.sentence, status=refused.status, stripe_code=stripe_code, param=refused.param)
    read_billed = partial(ctx.stripe.get_subscription, call["subscription_id"])
    return by_currency(refused, read_billed, plan.price, stripe=ctx.stripe)


def _release(schedule_id: str, key: str, stripe: StripeGateway) -> None:
    """A schedule that governs nothing any more counts as released (SUB-32)."""
    try:
        stripe.release_schedule(schedule_id, idempotency_key=key)
    except StripeRefused:
        schedule = or_none(stripe.get_schedule, schedule_id)
        if schedule is not None and schedule.get("status") in RUNNING:
            raise


def plan_next(operation: Operation, customer_id: str | None, ctx: Context) -> None:
    """Steps 4 to 6: look at Stripe, decide, and plan the next write or end the operation."""
    snapshot = take_snapshot(operation, customer_id, ctx)  # 4
    if snapshot is None:
        _conclude(operation, NO_SUBSCRIPTION, customer_id, ctx)
        return
    step = decide(
        operation.kind,
        operation.request,
        snapshot,
        sent=operation.sent,
        failed=operation.failure is not None,
        catalog=ctx.catalog,
        now=ctx.clock.now(),
    )
    if isinstance(step, Refusal) and _leaves_schedule(operation, snapshot):
        change(operation, ctx, failure={"code": step.code, "detail": step.detail, **step.extra})
        return
    if not isinstance(step, Call):
        _conclude(operation, step, customer_id, ctx)
        return
    planned = {
        "name": step.name,
        "target": step.target,
        "parameters": step.parameters,
        "key": f"onelane-{uuid.uuid4()}",
        "subscription_id": step.subscription_id,
        "term": step.term,
        "planned_at": ctx.clock.now().isoformat(),
    }
    subscription_id = snapshot.shown.id if snapshot.shown else None
    change(operation, ctx, call=planned, subscription_id=subscription_id)  # 5, the write-ahead


def _leaves_schedule(operation: Operation, snapshot: Snapshot) -> bool:
    """Whether a switch that is refused has begun a schedule, which goes first (SUB-34)."""
    if operation.kind is not Kind.SWITCH or operation.failure is not None or snapshot.shown is None:
        return False
    done = names(operation.sent, snapshot.shown.id)
    return Write.SCHEDULE in done and Write.PHASES not in done and snapshot.shown.running is not None


def _conclude(operation: Operation, step: Done | Refusal, customer_id: str | None, ctx: Context) -> None:
    """Step 6: the operation ends with the projection that shows its effect, in one commit (SUB-36)."""
    error: dict[str, Any] | None = None
    status = OperationStatus.SUCCEEDED
    if operation.failure is not None:
        error = dict(operation.failure)
    elif isinstance(step, Refusal):
        error = {"code": step.code, "detail": step.detail, **step.extra}
    if error is not None:
        status = OperationStatus.FAILED if error["code"] in _OF_STRIPE else OperationStatus.REFUSED
    if customer_id is None or operation.kind is Kind.PORTAL:
        end(operation, status, error, ctx)
        return
    ended = False

    def finish(connection: sa.Connection) -> None:
        nonlocal ended
        ended = operations_store.finish(connection, operation, status, now=ctx.clock.now(), error=error)

    sync_customer(
        customer_id,
        ctx,
        with_customer=False,
        subscriptions=[operation.subscription_id] if operation.subscription_id else [],
        then=finish,
    )
    if ended:
        _wake_buyer(operation, status, error, ctx)


def end(
    operation: Operation, status: OperationStatus, error: dict[str, Any] | None, ctx: Context, *, url: str | None = None
) -> None:
    """End an operation that changed nothing the projection shows."""
    with ctx.database.write() as connection:
        ended = operations_store.finish(connection, operation, status, now=ctx.clock.now(), error=error, url=url)
    if ended:
        _wake_buyer(operation, status, error, ctx)


def _wake_buyer(operation: Operation, status: OperationStatus, error: dict[str, Any] | None, ctx: Context) -> None:
    code = error["code"] if error else None
    log.info("operation.finished", operation_id=operation.id, kind=operation.kind.value, status=status.value, code=code)
    ctx.wakeups.wake([operation.id])


def change(operation: Operation, ctx: Context, **values: Any) -> None:
    """One compare-and-set. A lost one means: read it again."""
    if "sent" in values:
        values["sent"] = operations_store.as_rows(values["sent"])
    with ctx.database.write() as connection:
        if not operations_store.change(connection, operation, **values):
            log.info("operation.moved_on", operation_id=operation.id)
