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
class Money:
    """What was found. `disputed` and `refunded` are None where nobody asked, or nothing of the period is paid yet."""

    payment: Payment | None = None
    past_due_since: datetime | None = None
    disputed: bool | None = None
    refunded: bool | None = None


_FAILED = ("past_due", "unpaid")
_PERIODIC = ("subscription_create", "subscription_cycle")
# Marked uncollectible because the money did not come, not because a person forgave it or paused the collection.
_WRITTEN_OFF = ("max_payment_attempts", "payment_not_received")


def judge(subscription: Json, item: Json, invoices: Iterable[Json], catalog: Catalog) -> Money:
    """The money of a live subscription, from all of its invoices, or from the latest where that `settles` it."""
    known = sorted(invoices, key=_finalized, reverse=True)  # newest first
    plans = [invoice for invoice in known if _plan_lines(invoice, item, catalog) or _is_cut_off(invoice)]
    return Money(
        payment=_payment(subscription, item, known, plans, catalog),
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
    subscription: Json, item: Json, known: Sequence[Json], plans: Sequence[Json], catalog: Catalog
) -> Payment | None:
    status, now = subscription.get("status"), next(iter(covering(item, known, catalog)), None)
    was_paid = any(invoice.get("status") == "paid" and (invoice.get("total") or 0) > 0 for invoice in plans)
    if status in _FAILED:
        if now is not None and now.get("status") == "paid":
            return Payment.PAID
        return Payment.FIRST_FAILED if known and not was_paid else None
    if status != "active" or subscription.get("pause_collection") or now is None or not _is_owed(now):
        return None
    finalized = [invoice for invoice in known if invoice.get("status") not in ("draft", "void")]
    if finalized[0] is not now:  # the status is that one's
        return Payment.OVERDUE if was_paid else Payment.FIRST_FAILED
    return None if was_paid else Payment.FIRST_PENDING


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
    """The lines that bill the plan for a period; the rest of a period after a change is none."""
    lines = (invoice.get("lines") or {}).get("data") or []
    return [line for line in lines if isinstance(line, Mapping) and _bills_plan(line, item, catalog)]


def _bills_plan(line: Json, item: Json, catalog: Catalog) -> bool:
    of_item = (line.get("parent") or {}).get("subscription_item_details") or {}
    if not of_item or of_item.get("proration"):
        return False
    sold = (line.get("pricing") or {}).get("price_details") or {}
    return (
        of_item.get("subscription_item") == item.get("id")
        or catalog.plan_of_price(id_of(sold.get("price"))) is not None
        or id_of(sold.get("product")) in {plan.stripe_product for plan in catalog.plans.values() if plan.stripe_product}
    )


def _is_cut_off(invoice: Json) -> bool:
    """Whether the invoice has more lines than came with it, and is one for a period."""
    return bool((invoice.get("lines") or {}).get("has_more")) and invoice.get("billing_reason") in _PERIODIC
