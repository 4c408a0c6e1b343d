"""What passing time does: sessions expire, subscriptions renew or end, invoices are tried again, refunds arrive.

Nothing runs by itself. `tick` is called before each request and now and then by the server; it takes what is due by
the sandbox's clock, one object after the other, each at the moment that it was due. A test clock that is advanced takes
what is due on it in the same way.
"""

from collections.abc import Callable
from dataclasses import replace

from . import (
    checkout_sessions,
    idempotency,
    invoices,
    lifecycle,
    payment_methods,
    refunds,
    schedule_course,
    settings,
    subscription_objects,
    test_clocks,
)
from .calls import Call
from .errors import Json
from .events import emit
from .paid_events import announce
from .store import Store

_MOST = 5_000  # a clock moved by a century must not renew daily plans for ever


def tick(store: Store, now: float, call_at: Callable[[float, bool], Call], clock: str | None = None) -> int:
    """How many objects were due. `call_at(time, livemode)` makes the call under which their changes happen."""
    for done in range(_MOST):
        found = store.next_due(now, clock)
        if found is None:
            return done
        at, kind, one = found
        _WORK[kind](call_at(at, bool(one.get("livemode"))), one)
    return _MOST


def _subscription(call: Call, one: Json) -> None:
    if one["status"] == "incomplete":
        lifecycle.abandon(call, one)
        return
    one = lifecycle.tell_of_trial(call, one)
    paused = one["pause_collection"]
    if paused and paused["resumes_at"] and paused["resumes_at"] <= call.now:
        before, one = one, subscription_objects.save(call, one, pause_collection=None)
        emit(call, "customer.subscription.updated", one, previous=before)
    if one["schedule"]:
        one = schedule_course.advance(call, one)
    if one["status"] not in subscription_objects.ENDED and one["cancel_at"] and one["cancel_at"] <= call.now:
        lifecycle.end(call, one)
        return
    if one["status"] not in subscription_objects.ENDED and one["_due"] is not None and one["_due"] <= call.now:
        _renew(call, one)


def _renew(call: Call, old: Json) -> None:
    """The next period. The card decides whether it is paid; a trial's end without one is the trial settings' matter."""
    card = payment_methods.paying_for(call, call.named("customer", old["customer"]), old)
    if old["status"] == "trialing" and card is None and lifecycle.trial_over(call, old) is not None:
        return
    one, renewed = lifecycle.next_period(call, old)
    one, billed = lifecycle.charge_period(call, one, reason="subscription_cycle", method=card, items=renewed)
    one = lifecycle.settle(call, one, billed)
    emit(call, "customer.subscription.updated", one, previous=old)
    announce(call, billed)


def _invoice(call: Call, opened: Json) -> None:
    """The next attempt to have an open invoice paid; after the last one the account's setting says what happens."""
    id = (opened["parent"] or {}).get("subscription_details", {}).get("subscription")
    subscription = call.find("subscription", id)
    if opened["collection_method"] == "send_invoice":
        call.store.change("invoice", opened["id"], _due=None)
        if subscription is not None and subscription["latest_invoice"] == opened["id"]:
            lifecycle.overdue(call, subscription)
        return
    card = payment_methods.paying_for(call, call.named("customer", opened["customer"]), subscription)
    billed = invoices.collect(call, opened, card) if card else invoices.attempted_without_card(call, opened)
    announce(call, billed)
    if subscription is None or subscription["status"] in subscription_objects.ENDED:
        return
    after = lifecycle.settle(call, subscription, billed)
    if billed.last["status"] == "open" and billed.last["next_payment_attempt"] is None:
        match settings.after_retries(call.store):
            case "cancel":
                lifecycle.end(call, after, reason="payment_failed")
                return
            case "unpaid":
                after = subscription_objects.save(call, after, status="unpaid")
    if after["status"] != subscription["status"]:
        emit(call, "customer.subscription.updated", after, previous=subscription)


def _test_clock(call: Call, one: Json) -> None:
    """An advance, which takes the clock and what lives on it from moment to moment; or the clock's own end."""
    if one["status"] != "advancing":
        test_clocks.delete(call, one)
        return
    on_it = replace(call, test_clock=one["id"])

    def at(moment: float, livemode: bool) -> Call:
        test_clocks.moved(call, one["id"], moment)
        return replace(on_it, livemode=livemode)

    target = one["status_details"]["advancing"]["target_frozen_time"]
    tick(call.store, target, at, one["id"])
    test_clocks.arrived(call, one["id"], target)


_WORK: dict[str, Callable[[Call, Json], object]] = {
    "checkout_session": checkout_sessions.expired,
    "idempotency_key": lambda call, one: idempotency.forget(call.store, one["id"]),
    "invoice": _invoice,
    "refund": refunds.arrived,
    "subscription": _subscription,
    "subscription_schedule": schedule_course.due,
    "test_clock": _test_clock,
}
