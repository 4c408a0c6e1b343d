"""The remedy: what a person's choice or DUPLICATE_POLICY=cancel_newest does about several live subscriptions.

1 take the customer lock (a hint)  2 list at Stripe, plan one cancellation in the ledger  3 list again, cancel it, sync
(then 2 for the next one)  4 refund what was canceled, each refund with its key from the ledger.
Each number is a crash point: running it again continues from the rows. Only one cancellation is planned at a time, in
favor of one that was seen to be live and paying a moment ago. One that was chosen to stay is never canceled later, so
the customer's last one never is (SUB-18).
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from billing.clock import Clock
from billing.coordination.jobs import RemedyDuplicates
from billing.coordination.locks import Lease, lock_name, retry_seconds
from billing.customers.store import find_lane_of_customer
from billing.duplicates import store as duplicates_store
from billing.duplicates.candidates import read_candidates
from billing.duplicates.context import REMEDIES, Context
from billing.duplicates.policy import Decision, Wish, decide
from billing.duplicates.refunds import LOOK_LASTS, refund_all
from billing.duplicates.store import BACKOFF, Incident, Remedy
from billing.errors import (
    LedgerUnavailable,
    OnelaneError,
    PermanentError,
    StripeRefused,
    TransientError,
)
from billing.models import RemedyState
from billing.rules.backoff import is_failure
from billing.subscriptions.fetch import or_none
from billing.subscriptions.projection import is_live
from billing.subscriptions.projection_store import read_subscriptions
from billing.subscriptions.sync import sync_customer

log = structlog.get_logger(__name__)

MOST_ROUNDS = 10  # one or two for each cancellation; the next job continues
RECHECK = BACKOFF.longest  # until an incident that waits for a person is checked again; a sync wakes us earlier


def remedy_duplicates(incident_id: int, ctx: Context) -> bool:
    """Cancel and refund as far as a person's choice and the policy allow; else only finish what was begun.

    False where Stripe's error was noted on the incident: it is tried again later. Raises LedgerUnavailable.
    """
    with ctx.database.read() as connection:
        incident = duplicates_store.read_incident(connection, incident_id)
        if incident is None:
            return True
        lane_id = find_lane_of_customer(connection, customer_id=incident.customer_id, product=incident.product)
        begun = duplicates_store.has_unfinished(connection, incident)
    ctx = replace(ctx, wish=_wish_of(incident), refused=[])
    if _waits(incident, ctx.clock) or not (begun or (ctx.may_cancel and incident.resolved_at is None)):
        return True
    job = RemedyDuplicates(incident_id)
    with ctx.locks.hold(lock_name(lane_id, incident.customer_id)) as lease:  # 1
        if lease is None:
            ctx.queue.send(job, delay_seconds=retry_seconds())
            return True
        try:
            undecided = _cancel_all(incident, lease, ctx)
            owed = refund_all(incident, ctx)  # 4
        except LedgerUnavailable:
            raise
        except TransientError as error:
            _postpone(incident, error, ctx)
            return False
        with ctx.database.write() as connection:
            until = ctx.clock.now() + RECHECK
            reason = " ".join(filter(None, (undecided, owed))) or None
            duplicates_store.put_off(connection, incident, failures=0, until=until, reason=reason)
    return not ctx.refused


def _wish_of(incident: Incident) -> Wish | None:
    """What a person decided about it."""
    chosen = incident.chosen
    return Wish(str(chosen["keep"]), tuple(map(str, chosen["cancel"]))) if chosen else None


def _waits(incident: Incident, clock: Clock) -> bool:
    """Whether the wait after a transient failure is not over."""
    return incident.failures > 0 and BACKOFF.seconds_left(incident.next_attempt_at, now=clock.now()) > 0


def _cancel_all(incident: Incident, lease: Lease, ctx: Context) -> str | None:
    """Steps 2 and 3; why a person is needed, if one is. A refusal here does not prevent the refunds."""
    try:
        return _cancel_each(incident, lease, ctx)
    except PermanentError as error:
        ctx.note_refusal("remedy.refused", error, incident_id=incident.id)
        return error.sentence


def _cancel_each(incident: Incident, lease: Lease, ctx: Context) -> str | None:
    for _ in range(MOST_ROUNDS):
        if lease.lapsed:
            raise TransientError("The customer lock lapsed. Another worker may be at it.")
        with ctx.database.read() as connection:
            planned = duplicates_store.find_planned(connection, incident)
        if planned:
            _cancel(planned, ctx)
            continue
        if incident.resolved_at is not None or not ctx.may_cancel:
            return None
        decision = _decide(incident, _list(incident.customer_id, ctx), ctx)  # 2
        if not decision.cancel:
            if len(decision.live) < 2:
                _sync(incident.customer_id, ctx)  # the projection is behind: the incident is over
            return decision.reason
        _plan(incident, decision.cancel[0], str(decision.keep), ctx)
    raise TransientError("There are more duplicates than one job cancels.")


def _decide(row: Incident | Remedy, listed: Sequence[Mapping[str, Any]], ctx: Context) -> Decision:
    """What the wish, or the policy, makes of the customer's subscriptions as they are now."""
    with ctx.database.read() as connection:
        kept = duplicates_store.find_kept(connection, row)
        known = read_subscriptions(connection, row.customer_id)
    doubted = {shown.subscription_id for shown in known if shown.disputed or shown.refunded}
    candidates = read_candidates(listed, stripe=ctx.stripe, catalog=ctx.catalog, doubted=doubted)
    return decide(candidates, ctx.catalog, kept=kept, wish=ctx.wish, by_policy=ctx.cancels)


def _plan(incident: Incident, subscription_id: str, kept_id: str, ctx: Context) -> None:
    """Write a cancellation and its refunds before they are sent; nothing while another plan is unsettled."""
    values = {
        "incident_id": incident.id,
        "customer_id": incident.customer_id,
        "product": incident.product,
        "subscription_id": subscription_id,
        "kept_id": kept_id,
        "nonce": str(uuid.uuid4()),
        "refund_key": str(uuid.uuid4()),
        "created_at": ctx.clock.now(),
    }
    with ctx.database.write() as connection:
        planned = duplicates_store.plan(connection, values)
    if planned:
        log.warning("remedy.planned", incident_id=incident.id, subscription_id=subscription_id, kept_id=kept_id)


def _cancel(remedy: Remedy, ctx: Context) -> None:
    """Step 3: list right before, cancel only what the policy still names, then sync in one commit with the row."""
    since = ctx.clock.now()
    listed = _list(remedy.customer_id, ctx)
    decision = _decide(remedy, listed, ctx) if ctx.may_cancel else Decision()
    subscription = next((each for each in listed if each["id"] == remedy.subscription_id), None)
    subscription = subscription or or_none(ctx.stripe.get_subscription, remedy.subscription_id)
    if subscription is None or not is_live(subscription["status"]):
        _close(remedy, ctx, ours=_is_ours(subscription, remedy))
        return
    if remedy.subscription_id not in decision.cancel or decision.keep != remedy.kept_id:
        # For example because the other one has ended. In favor of a third one it needs a plan that says so.
        _close(remedy, ctx, ours=False)
        return
    if abs(ctx.clock.now() - since) > LOOK_LASTS:
        return  # too long ago: list again
    try:
        ctx.stripe.cancel_subscription(remedy.subscription_id, comment=_comment(remedy))
    except StripeRefused as refused:
        now = or_none(ctx.stripe.get_subscription, remedy.subscription_id)
        if now is not None and is_live(now["status"]):
            raise
        log.info("remedy.was_over", subscription_id=remedy.subscription_id, reason=refused.sentence)
        _close(remedy, ctx, ours=_is_ours(now, remedy))
        return
    _close(remedy, ctx, ours=True)


def _close(remedy: Remedy, ctx: Context, *, ours: bool) -> None:
    """Note the end of a plan: canceled by us, with a refund to follow, or dropped."""
    state = RemedyState.CANCELED if ours else RemedyState.DROPPED
    won = _sync(remedy.customer_id, ctx, remedy=remedy, state=state)
    if won:
        REMEDIES.labels(state.value).inc()
        log.warning(f"remedy.{state.value}", subscription_id=remedy.subscription_id, customer_id=remedy.customer_id)


def _sync(customer_id: str, ctx: Context, *, remedy: Remedy | None = None, state: RemedyState | None = None) -> bool:
    """Sync the projection and the incident, and settle the remedy; whether this worker settled it."""
    won = False

    def settle(connection: Any) -> None:
        nonlocal won
        if remedy is not None and state is not None:
            won = duplicates_store.settle(connection, remedy, state, now=ctx.clock.now())

    sync_customer(
        customer_id,
        ctx,
        with_customer=False,
        then=settle,
        wakes_remedy=False,  # this is it
    )
    return won


def _comment(remedy: Remedy) -> str:
    return f"Duplicate, canceled by onelane ({remedy.nonce})"


def _is_ours(subscription: Mapping[str, Any] | None, remedy: Remedy) -> bool:
    """Whether this remedy canceled it: its answer was lost, or its worker crashed."""
    details = (subscription or {}).get("cancellation_details") or {}
    return remedy.nonce in str(details.get("comment"))


def _list(customer_id: str, ctx: Context) -> list[dict[str, Any]]:
    """Every subscription of the customer; none when Stripe has deleted the customer."""
    return or_none(ctx.stripe.list_subscriptions, customer_id) or []


def _postpone(incident: Incident, error: OnelaneError, ctx: Context) -> None:
    """Note the error and the next attempt, for which the sweep wakes a worker."""
    wait = BACKOFF.wait_seconds(incident.failures, error)
    with ctx.database.write() as connection:
        until = ctx.clock.now() + timedelta(seconds=wait)
        failures = incident.failures + int(is_failure(error))
        duplicates_store.put_off(connection, incident, failures=failures, until=until, reason=error.sentence)
    REMEDIES.labels("postponed").inc()
    log.warning("remedy.postponed", incident_id=incident.id, seconds=round(wait, 1), reason=error.sentence)
