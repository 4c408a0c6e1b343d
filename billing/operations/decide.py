"""Decide what an operation does next, from what Stripe says now and what was sent before. Pure.

Plain dicts of Stripe's come in; a `Call` to plan, `Done`, or a `Refusal` goes out. Nothing is kept between two calls:
after a crash the same question gets the same answer, and what was reached is not done again. Only what is the buyer's
is touched: a schedule or an end that somebody else made is `managed_elsewhere`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from billing.catalog import Catalog, Plan, has_interval_of
from billing.errors import OPERATORS
from billing.operations import ends, phases, refusals
from billing.operations.calls import (
    NO_SUBSCRIPTION,
    Call,
    Done,
    Governed,
    Json,
    Kind,
    Next,
    Refusal,
    Sent,
    Snapshot,
    Write,
    names,
)
from billing.operations.ends import PlannedEnd, find_end
from billing.operations.phases import NotCarriedError
from billing.subscriptions.projection import Subscription, is_live, plan_item, project
from billing.subscriptions.stripe_fields import items_of

_UNSETTLED = Refusal("payment_in_progress", "The first payment of this subscription is not settled.", {})


def decide(
    kind: Kind,
    request: Json,
    snapshot: Snapshot,
    *,
    sent: Sequence[Sent],
    failed: bool,
    catalog: Catalog,
    now: datetime,
) -> Next:
    """The next step. `sent` are the writes that were answered, `failed` that one of them was refused (SUB-30)."""
    if kind is Kind.PORTAL:
        parameters = {"customer": snapshot.customer_id, "return_url": request["return_url"]}
        if catalog.portal.configuration:  # without one, the account's default
            parameters["configuration"] = catalog.portal.configuration
        return Call(Write.PORTAL, snapshot.customer_id, parameters)
    at = int(now.timestamp())
    if kind is Kind.CANCEL:
        return _cancel(snapshot, sent, catalog, at)
    shown = snapshot.shown
    if shown is None or not _is_live(shown):
        return NO_SUBSCRIPTION
    if shown.subscription.get("status") == "incomplete":
        return _UNSETTLED
    done = names(sent, shown.id)
    if failed:  # what we put there and could not finish must not stay
        return _release(shown) if Write.SCHEDULE in done and _is_releasable(shown, catalog) else Done()
    end = find_end(shown.subscription, plan_item(shown.subscription, catalog), snapshot.cancellations, at)
    match kind:
        case Kind.REACTIVATE:
            return _reactivate(shown, end, done)
        case Kind.SWITCH:
            return _switch(shown, end, catalog.plans.get(request["plan"]), done, catalog, now)
        case Kind.UNDO_SWITCH:
            return _undo(shown, catalog, now)


# --- cancel


def _cancel(snapshot: Snapshot, sent: Sequence[Sent], catalog: Catalog, now: int) -> Next:
    """SUB-31, SUB-84, SUB-89: every live subscription of the product ends, or the answer names those that bill."""
    every = [snapshot.shown, *snapshot.others] if snapshot.shown else snapshot.others
    live = [one for one in every if _is_live(one)]
    coming = [(str(schedule["id"]), refusals.begins_elsewhere(schedule)) for schedule in snapshot.coming]
    if not live:  # what we cancelled may have ended meanwhile
        over = Done() if any(one.name == Write.CANCEL and not one.refused for one in sent) else NO_SUBSCRIPTION
        return refusals.some_go_on(coming, len(coming)) if coming else over
    steps = [(one, _cancel_one(one, snapshot.cancellations, sent, catalog, now)) for one in live]
    if call := next((step for _, step in steps if isinstance(step, Call)), None):
        return call
    refused = [(one.id, step) for one, step in steps if isinstance(step, Refusal)]
    going_on = [(id_, step) for id_, step in refused if step.code != "already_canceling"] + coming
    if not going_on:
        return refused[0][1] if len(refused) == len(live) else Done()
    several = len(live) + len(coming)
    return going_on[0][1] if several == 1 else refusals.some_go_on(going_on, several)


def _cancel_one(one: Governed, cancellations: Sequence[Sent], sent: Sequence[Sent], catalog: Catalog, now: int) -> Next:
    """SUB-32: our planned change is released first, since Stripe refuses to cancel under a schedule."""
    if problem := next((each.refused for each in sent if each.refused and each.subscription_id == one.id), None):
        return Refusal(problem["code"], problem["detail"], {OPERATORS: problem[OPERATORS]})
    if one.subscription.get("status") == "incomplete":
        return _UNSETTLED
    item = plan_item(one.subscription, catalog)
    end = find_end(one.subscription, item, cancellations, now)
    if end and end.with_period:
        return Done() if Write.CANCEL in names(sent, one.id) else refusals.already_canceling(end)
    if one.running:
        return _release(one) if _is_releasable(one, catalog) else refusals.scheduled_elsewhere(one.running)
    return ends.cancel(one.subscription, item, end, now)


# --- reactivate, switch, undo


def _reactivate(shown: Governed, end: PlannedEnd | None, done: Collection[str]) -> Next:
    """SUB-33, SUB-85: a cancellation is taken back, and the term that it replaced holds again."""
    if end is None:
        return Done()
    if shown.running:
        return refusals.scheduled_elsewhere(shown.running)
    if end.is_cancellation:
        return ends.take_back(shown.subscription, end)
    return Done() if Write.REACTIVATE in done else refusals.ends_elsewhere(end)


def _switch(
    shown: Governed,
    end: PlannedEnd | None,
    plan: Plan | None,
    done: Collection[str],
    catalog: Catalog,
    now: datetime,
) -> Next:
    """SUB-34: one subscription, two phases; never a second one."""
    if plan is None:
        return Refusal("invalid_request", "That plan is not sold any more.", {})
    row = _project(shown, catalog, now)
    if row.plan == plan.key:
        if Write.PHASES in done:
            return Done()  # the period ended meanwhile
        return Refusal("already_on_plan", "This subscription is on that plan already.", {"plan": plan.key})
    schedule = shown.running
    if schedule and not _is_releasable(shown, catalog):
        return refusals.scheduled_elsewhere(schedule)
    if end:
        return refusals.is_canceling(end) if end.is_cancellation else refusals.ends_elsewhere(end)
    quantity = plan.min_quantity if row.quantity is None else row.quantity  # none where it was billed by use
    if not plan.metered and not plan.min_quantity <= quantity <= plan.max_quantity:
        detail = f"That plan is for {plan.min_quantity} to {plan.max_quantity}; this subscription has {row.quantity}."
        return Refusal("invalid_request", detail, {})
    if reason := _cannot_switch(shown.subscription, plan, catalog):
        return Refusal("not_switchable", f"This subscription cannot change its plan: {reason}.", {})
    if schedule is None:
        return Call(Write.SCHEDULE, shown.id, {"from_subscription": shown.id}, shown.id)
    agrees = Write.SCHEDULE in done or phases.agrees(schedule, shown.subscription)
    if row.scheduled_plan == plan.key and agrees:
        return Done()
    if not agrees:  # begin again, from Stripe's own phase of today
        return _release(shown)
    item = plan_item(shown.subscription, catalog)
    try:
        parameters = phases.write_phases(schedule, shown.subscription, item, plan, catalog.product)
    except NotCarriedError as what:
        return Refusal("not_switchable", f"This subscription has something that a switch would lose: {what}.", {})
    return Call(Write.PHASES, str(schedule["id"]), parameters, shown.id)


def _cannot_switch(subscription: Json, plan: Plan, catalog: Catalog) -> str | None:
    """What is in the way of exchanging the plan's item alone; None where nothing is."""
    prices = [item.get("price") for item in items_of(subscription)]
    sold = [price for price in prices if catalog.plan_sold_as(price)]
    if len(sold) != 1:
        return "none of its prices is a plan's" if not sold else "it has several plans at once"
    if subscription.get("status") == "paused":
        return "it is paused"
    is_classic = (subscription.get("billing_mode") or {}).get("type") == "classic"
    if is_classic and any(not has_interval_of(plan, price) for price in prices if price and price not in sold):
        # Stripe bills several intervals in flexible billing mode alone.
        return "what it has beside the plan is not billed as often as the other plan"
    return None


def _undo(shown: Governed, catalog: Catalog, now: datetime) -> Next:
    """SUB-35: without a planned switch nothing is released."""
    schedule = shown.running
    if schedule is None or not phases.is_planned(schedule):
        return Done()
    if phases.is_ours(schedule, shown.subscription, catalog):
        return _release(shown)
    return refusals.scheduled_elsewhere(schedule) if _project(shown, catalog, now).scheduled_plan else Done()


# --- whose it is


def _is_live(one: Governed) -> bool:
    return is_live(str(one.subscription.get("status")))


def _is_releasable(one: Governed, catalog: Catalog) -> bool:
    """Whether its schedule does nothing but what we wrote (SUB-83), or nothing at all."""
    return one.running is not None and (
        phases.is_ours(one.running, one.subscription, catalog) or phases.is_bare(one.running, one.subscription)
    )


def _release(one: Governed) -> Call:
    return Call(Write.RELEASE, str((one.schedule or {})["id"]), {}, one.id)


def _project(one: Governed, catalog: Catalog, now: datetime) -> Subscription:
    customer_id = str(one.subscription.get("customer"))
    return project(
        one.subscription, customer_id=customer_id, catalog=catalog, schedule=one.running, before=None, now=now
    )
