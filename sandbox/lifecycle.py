"""A subscription's life, by any cause: billed, renewed, paid late or never, forced into a status, ended."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from . import balances, discounts, invoice_items, payment_methods
from .calls import Call
from .errors import Json
from .events import emit
from .invoices import Billed, bill, collect, void
from .paid_events import announce
from .period_lines import WHOLE, of_period
from .periods import following, next_end
from .subscription_objects import ENDED, TOLD_BEFORE, save


def charge_period(
    call: Call,
    subscription: Json,
    *,
    reason: str,
    method: Json | None,
    items: Sequence[Json] | None = None,
    outcome: str = "try",
    share: Fraction = WHOLE,
) -> tuple[Json, Billed]:
    """Bills the current period of `items` (all of them unless told), and what waits for the next invoice.

    A coupon that applies once is spent by it. `share`: how much of the period is due.
    """
    billed_items = subscription["items"]["data"] if items is None else items
    return charge_lines(
        call,
        subscription,
        of_period(call, subscription, billed_items, share),
        reason=reason,
        method=method,
        outcome=outcome,
        spends=share > 0,
    )


def charge_lines(
    call: Call,
    subscription: Json,
    lines: Sequence[Any],
    *,
    reason: str,
    method: Json | None,
    outcome: str = "try",
    spends: bool = True,
) -> tuple[Json, Billed]:
    """An invoice of these lines, the latest one of the subscription from now on."""
    customer = balances.bound(
        call, call.named("customer", subscription["customer"]), subscription["currency"], "customer"
    )
    waiting = invoice_items.waiting(call, customer["id"], subscription["id"]) if reason != "subscription_create" else []
    billed = bill(
        call,
        customer,
        subscription,
        [*lines, *invoice_items.lines(call, waiting)],
        reason=reason,
        method=method,
        offs=discounts.offs(call, subscription["discounts"]),
        outcome=outcome,
    )
    invoice_items.billed(call, waiting, billed.last["id"])
    now = call.named("subscription", subscription["id"])
    data = [
        {**item, "discounts": discounts.left(call, item["discounts"], billed=spends)} for item in now["items"]["data"]
    ]
    return call.store.change(
        "subscription",
        now["id"],
        latest_invoice=billed.last["id"],
        discounts=discounts.left(call, now["discounts"], billed=spends),
        items={**now["items"], "data": data},
    ), billed


def end(call: Call, old: Json, *, status: str = "canceled", **details: Any) -> Json:
    """The subscription's end, with its event."""
    one = save(
        call,
        old,
        status=status,
        canceled_at=old["canceled_at"] or call.now,
        cancellation_details={**old["cancellation_details"], **details},
        ended_at=call.now,
    )
    _tried_no_more(call, one)
    schedule = call.find("subscription_schedule", one["schedule"])
    if schedule is not None and schedule["status"] == "active":
        schedule = call.store.change("subscription_schedule", schedule["id"], status="canceled", canceled_at=call.now)
        emit(call, "subscription_schedule.canceled", schedule)
        if details.get("reason") == "payment_failed":
            emit(call, "subscription_schedule.aborted", schedule)
    emit(call, "customer.subscription.deleted" if status == "canceled" else "customer.subscription.updated", one,
         previous=None if status == "canceled" else old)  # fmt: skip
    return one


def _tried_no_more(call: Call, one: Json) -> None:
    """Stripe stops collecting the open invoices of a subscription that ended; they stay open."""
    for invoice in list(call.store.newest_first("invoice", customer=one["customer"])):
        if _subscription_of(invoice) == one["id"] and invoice["status"] == "open":
            fields = {"auto_advance": False, "next_payment_attempt": None, "_due": None}
            call.store.change("invoice", invoice["id"], **fields)


def _subscription_of(invoice: Json) -> str | None:
    return ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")


def abandon(call: Call, old: Json) -> Json:
    """The first payment will not come any more: nothing can be charged from here on, whatever a bank says later."""
    invoice = call.find("invoice", old["latest_invoice"])
    if invoice is not None and invoice["status"] == "open":
        invoice, intents = void(call, invoice)
        for intent in intents:
            emit(call, "payment_intent.canceled", intent)
        emit(call, "invoice.voided", invoice)
    return end(call, old, status="incomplete_expired")


def tell_of_trial(call: Call, one: Json, *, cut_short: bool = False) -> Json:
    """Three days before a trial ends, at once where it is shorter or is `cut_short`: said once for each end."""
    near = one["status"] == "trialing" and one["trial_end"] and one["trial_end"] - TOLD_BEFORE <= call.now
    if not cut_short and (not near or one.get("_told_of") == one["trial_end"]):
        return one
    emit(call, "customer.subscription.trial_will_end", one)
    return save(call, one, _told_of=one["trial_end"])


def trial_over(call: Call, old: Json) -> Json | None:
    """What a trial's end without a card comes to, as its settings say; None where the next period is billed."""
    match old["trial_settings"]["end_behavior"]["missing_payment_method"]:
        case "cancel":
            return end(call, old)
        case "pause":
            return mark(call, old, "paused", before=old)
        case _:
            return None


def next_period(call: Call, old: Json) -> tuple[Json, list[Json]]:
    """The next period of the items whose period is over, and these items. A trial that is over becomes active."""
    over = {item["id"] for item in old["items"]["data"] if item["current_period_end"] <= call.now}
    data = [_next(old, item) if item["id"] in over else item for item in old["items"]["data"]]
    status = "active" if old["status"] == "trialing" else old["status"]
    one = save(call, old, items={**old["items"], "data": data}, status=status)
    return one, [item for item in data if item["id"] in over]


def _next(subscription: Json, item: Json) -> Json:
    start = item["current_period_end"]
    end = following(subscription["billing_cycle_anchor"], start, item["price"]["recurring"])
    return {**item, "current_period_start": start, "current_period_end": end}


def settle(call: Call, subscription: Json, billed: Billed) -> Json:
    """The status after an attempt to collect: active where the latest invoice is paid, past due where it failed."""
    if billed.last["id"] != subscription["latest_invoice"] or subscription["status"] in ENDED:
        return subscription
    if billed.last["status"] == "paid" and subscription["status"] in ("past_due", "unpaid", "incomplete"):
        return save(call, subscription, status="active")
    failed = billed.last["status"] == "open" and billed.last["attempted"]
    if failed and subscription["status"] in ("active", "trialing"):
        return save(call, subscription, status="past_due")
    return subscription


def overdue(call: Call, one: Json) -> None:
    """The latest invoice was sent by mail, and its date has come."""
    if one["status"] == "active":
        mark(call, one, "past_due", before=one)


def given_up(call: Call, invoice: Json) -> None:
    """The status after an invoice was voided or marked uncollectible: the latest one that is not void decides it."""
    one = call.find("subscription", _subscription_of(invoice))
    if one is None or one["status"] not in ("past_due", "unpaid"):
        return
    known = [
        each
        for each in call.store.newest_first("invoice", customer=one["customer"])
        if _subscription_of(each) == one["id"] and each["status"] not in ("draft", "void")
    ]
    if not known or known[0]["status"] != "open":
        mark(call, one, "active", before=one)


def force_status(call: Call, old: Json, status: str) -> Json:
    """Any status, from outside, with what would have led to it: a card that is declined from now on, a late payment."""
    if status == old["status"]:
        return old
    if status in ENDED:
        return end(call, old, status=status, reason="payment_failed")
    card = payment_methods.paying_for(call, call.named("customer", old["customer"]), old)
    invoice = call.find("invoice", old["latest_invoice"])
    is_open = invoice is not None and invoice["status"] == "open"
    billed = None
    one = old
    if card and status in ("past_due", "unpaid", "active"):
        card = payment_methods.answering(call, card, "generic_decline" if status != "active" else None)
    if status in ("past_due", "unpaid") and card and not is_open:
        one, billed = charge_period(call, old, reason="subscription_cycle", method=card)
    elif status == "active" and card and invoice and is_open:
        billed = collect(call, invoice, card)
    if billed is not None:
        announce(call, billed)
    return mark(call, one, status, before=old)


def mark(call: Call, one: Json, status: str, *, before: Json) -> Json:
    """The status alone, and its event."""
    ended = {"canceled_at": None, "ended_at": None} if before["status"] in ENDED else {}
    one = save(call, one, status=status, **ended)
    if status == "paused":
        emit(call, "customer.subscription.paused", one)
    elif before["status"] == "paused":
        emit(call, "customer.subscription.resumed", one)
    emit(call, "customer.subscription.updated", one, previous=before)
    return one


def cancel_all_of(call: Call, customer: str) -> None:
    """The subscriptions of a customer, and the schedules that were to begin one."""
    for one in list(call.store.newest_first("subscription", customer=customer)):
        if one["status"] not in ENDED:
            end(call, one, reason="cancellation_requested")
    for one in list(call.store.newest_first("subscription_schedule", customer=customer)):
        if one["status"] == "not_started":
            fields = {"status": "canceled", "canceled_at": call.now, "_due": None}
            emit(
                call, "subscription_schedule.canceled", call.store.change("subscription_schedule", one["id"], **fields)
            )


def period(old: Json, start: int, anchor: int, *, end: int | None = None) -> Json:
    """All items on one period from `start`, and the anchor."""
    data = [
        {
            **item,
            "current_period_start": start,
            "current_period_end": end or next_end(anchor, start, item["price"]["recurring"]),
        }
        for item in old["items"]["data"]
    ]
    return {"items": {**old["items"], "data": data}, "billing_cycle_anchor": anchor}
