"""What a subscription's invoices say of its money. Pure: Stripe's plain dicts come in, a `Money` goes out.

The status follows the latest finalized invoice, whatever that is for. So a small invoice in the middle of a period
hides what the period's own invoice says, in both directions. Judged here are the invoices with a line for the plan's
item. Those whose line begins within the item's current period cover it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import Any

from billing.catalog import Catalog
from billing.subscriptions.stripe_fields import id_of, time_of

Json = Mapping[str, Any]


class Payment(StrEnum):
    """What the invoices say beside the status; a row has none where the status says it all (SUB-77)."""

    FIRST_PENDING = "first_pending"  # active, and the first payment is on its way
    FIRST_FAILED = "first_failed"  # nothing was ever paid, and the payment failed
    OVERDUE = "overdue"  # active by a later invoice, and the one for this period is not paid
    PAID = "paid"  # past due or unpaid by a later invoice, and the one for this period is paid


@dataclass(frozen=True, slots=True)
class Bought:
    """What a period was paid for: the price, with its id and product, and how many."""

    price: Json
    quantity: int | None


@dataclass(frozen=True, slots=True)
class Money:
    """What was found. `disputed` and `refunded` are None where nobody asked, or nothing of the period is paid yet.

    `bought` is there only where a change of price or quantity since then is not paid.
    """

    payment: Payment | None = None
    bought: Bought | None = None
    past_due_since: datetime | None = None
    disputed: bool | None = None
    refunded: bool | None = None


_FAILED = ("past_due", "unpaid")
_PERIODIC = ("subscription_create", "subscription_cycle")
# Marked uncollectible because the money did not come, not because a person forgave it or paused the collection.
_WRITTEN_OFF = ("max_payment_attempts", "payment_not_received")


def judge(subscription: Json, item: Json, invoices: Iterable[Json], catalog: Catalog, *, now: datetime) -> Money:
    """The money of a live subscription, from all of its invoices, or from the latest where that `settles` it."""
    known = sorted(invoices, key=_finalized, reverse=True)  # newest first
    plans = [invoice for invoice in known if _plan_lines(invoice, item, catalog) or _is_cut_off(invoice)]
    payment = _payment(subscription, item, known, plans, catalog, now)
    return Money(
        payment=payment,
        bought=_bought(item, known, catalog) if payment is Payment.PAID else None,
        past_due_since=_due_since(known, plans),
    )


def covering(item: Json, invoices: Iterable[Json], catalog: Catalog) -> Sequence[Json]:
    """The invoices for the item's current period, newest first; drafts and void ones are none."""
    starts, ends = item.get("current_period_start") or 0, item.get("current_period_end") or 0

    recurring = (item.get("price") or {}).get("recurring") or {}
    # Use is billed once its period is over: the line ends where the running period begins.
    sides = ("start", "end") if recurring.get("usage_type") == "metered" else ("start",)

    def covers(invoice: Json) -> bool:
        periods = [line.get("period") or {} for line in _plan_lines(invoice, item, catalog)]
        times = [period.get(side) or 0 for period in periods for side in sides]
        if _is_first(invoice):  # a backdated one begins before the period does
            times += [(period.get("end") or 0) - 1 for period in periods]
        times += [invoice.get("created") or 0] if not times and _is_cut_off(invoice) else []
        return invoice.get("status") not in ("draft", "void") and any(starts <= time < ends for time in times)

    return sorted(filter(covers, invoices), key=_finalized, reverse=True)


def settles(subscription: Json, item: Json, catalog: Catalog) -> bool:
    """Whether the latest invoice came with the subscription and says that all is well: no other has to be read."""
    latest = subscription.get("latest_invoice")
    if latest is None or subscription.get("status") not in ("active", *_FAILED):
        return True
    paid = isinstance(latest, Mapping) and latest.get("status") == "paid" and subscription.get("status") == "active"
    return paid and bool(covering(item, [latest], catalog))


def _payment(
    subscription: Json, item: Json, known: Sequence[Json], plans: Sequence[Json], catalog: Catalog, at: datetime
) -> Payment | None:
    status, now = subscription.get("status"), next(iter(covering(item, known, catalog)), None)
    was_paid = any(map(_brought_money, plans))
    if status in _FAILED:
        if now is not None and now.get("status") == "paid":
            return Payment.PAID
        return Payment.FIRST_FAILED if known and not was_paid else None
    if status != "active" or subscription.get("pause_collection") or now is None or not _is_owed(now):
        return None
    finalized = [invoice for invoice in known if invoice.get("status") not in ("draft", "void")]
    late = finalized[0] is not now and not _waits(now, at)  # else the status is its own
    if was_paid:
        return Payment.OVERDUE if late else None
    earlier = (invoice for invoice in plans if invoice is not now and _is_owed(invoice))
    failed = late or any(not _waits(invoice, at) for invoice in earlier)
    return Payment.FIRST_FAILED if failed else Payment.FIRST_PENDING


def _waits(invoice: Json, at: datetime) -> bool:
    """Whether it was sent by mail and its date has not come: nothing has failed, whatever else was billed since."""
    return invoice.get("status") == "open" and (invoice.get("due_date") or 0) > at.timestamp()


def _brought_money(invoice: Json) -> bool:
    """Paid, by whatever means, with more than nothing: what a credit note took off an open invoice is no payment."""
    due = (invoice.get("total") or 0) - (invoice.get("pre_payment_credit_notes_amount") or 0)
    return invoice.get("status") == "paid" and due > 0


def _bought(item: Json, known: Sequence[Json], catalog: Catalog) -> Bought | None:
    """What the period was paid for, where an invoice for a dearer price or for more is owed: by the newest paid one."""
    [paid, *_] = covering(item, known, catalog)
    later = [*takewhile(lambda invoice: invoice is not paid, known)]
    owed = [line for invoice in later if _is_owed(invoice) for line in _lines(invoice)]
    if not any(_is_change(line) and _price_of(line) == id_of(item.get("price")) for line in owed):
        return None
    for invoice in (one for one in [*later, paid] if one.get("status") == "paid"):
        lines = [one for one in _lines(invoice) if _is_of_plan(one, item, catalog) and (one.get("amount") or 0) >= 0]
        if lines:  # several of one price are its tiers
            price = _price_of(lines[0])
            counted = [one["quantity"] for one in lines if _price_of(one) == price and one.get("quantity") is not None]
            return Bought({"id": price, "product": _sold(lines[0]).get("product")}, sum(counted) if counted else None)
    return None


def _due_since(known: Sequence[Json], plans: Sequence[Json]) -> datetime | None:
    """Since when something is owed: the oldest unpaid invoice for the plan after the last paid one, else any's."""
    run = takewhile(lambda invoice: invoice.get("status") != "paid", plans)
    owed = [*filter(_is_owed, run)] or [invoice for invoice in known if _is_owed(invoice)][:1]
    return min((due for invoice in owed if (due := time_of(_due(invoice)))), default=None)


def _due(invoice: Json) -> object:
    """When it had to be paid: one that is sent by mail has a date for that."""
    return invoice.get("due_date") or (invoice.get("status_transitions") or {}).get("finalized_at")


def _is_owed(invoice: Json) -> bool:
    details = (invoice.get("status_details") or {}).get("uncollectible") or {}
    written_off = invoice.get("status") == "uncollectible" and details.get("reason") in _WRITTEN_OFF
    return invoice.get("status") == "open" or written_off


def _finalized(invoice: Json) -> tuple[float, float]:
    at = (invoice.get("status_transitions") or {}).get("finalized_at")
    return (at or invoice.get("created") or 0, invoice.get("created") or 0)


def _plan_lines(invoice: Json, item: Json, catalog: Catalog) -> list[Json]:
    """The lines that bill the plan for a period; the rest of a period after a change is none.

    What a subscription began with is its first period, also where that is a part of one: billed up to a chosen day, or
    from a day in the past.
    """
    bills = _is_of_plan if _is_first(invoice) else _bills_plan
    return [line for line in _lines(invoice) if bills(line, item, catalog)]


def _lines(invoice: Json) -> list[Json]:
    lines = (invoice.get("lines") or {}).get("data") or []
    return [line for line in lines if isinstance(line, Mapping)]


def _is_first(invoice: Json) -> bool:
    return invoice.get("billing_reason") == "subscription_create"


def _bills_plan(line: Json, item: Json, catalog: Catalog) -> bool:
    return _is_of_plan(line, item, catalog) and not _of_item(line).get("proration")


def _is_of_plan(line: Json, item: Json, catalog: Catalog) -> bool:
    return bool(_of_item(line)) and (
        _of_item(line).get("subscription_item") == item.get("id")
        or catalog.plan_of_price(_price_of(line)) is not None
        or id_of(_sold(line).get("product"))
        in {plan.stripe_product for plan in catalog.plans.values() if plan.stripe_product}
    )


def _of_item(line: Json) -> Json:
    return (line.get("parent") or {}).get("subscription_item_details") or {}


def _is_change(line: Json) -> bool:
    """Whether it takes money for the rest of a period, after a change of price or quantity."""
    parent = line.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    return bool(details.get("proration")) and (line.get("amount") or 0) > 0


def _sold(line: Json) -> Json:
    return (line.get("pricing") or {}).get("price_details") or {}


def _price_of(line: Json) -> str | None:
    return id_of(_sold(line).get("price"))


def _is_cut_off(invoice: Json) -> bool:
    """Whether the invoice has more lines than came with it, and is one for a period."""
    return bool((invoice.get("lines") or {}).get("has_more")) and invoice.get("billing_reason") in _PERIODIC
