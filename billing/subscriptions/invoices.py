"""What a subscription's invoices say of its money. Pure: Stripe's plain dicts come in, a `Money` goes out.

The status follows the latest finalized invoice, whatever that is for. So a small invoice in the middle of a period
hides what the period's own invoice says, in both directions. Judged here are the invoices with a line for the plan's
item. Those whose line begins within the item's current period cover it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import Any

from billing.catalog import Catalog
from billing.subscriptions.invoice_lines import (
    is_cut_off,
    is_first,
    is_of_plan,
    lines_of,
    plan_lines,
    price_of,
    raises,
    sold_by,
)
from billing.subscriptions.stripe_fields import time_of

Json = Mapping[str, Any]


class Payment(StrEnum):
    """What the invoices say beside the status; a row has none where the status says it all (SUB-77)."""

    FIRST_PENDING = "first_pending"  # active, and the first payment is on its way
    FIRST_FAILED = "first_failed"  # nothing was ever paid, and the payment failed
    OVERDUE = "overdue"  # active by a later invoice, and the one for this period is not paid
    PAID = "paid"  # past due or unpaid by a later invoice, and the one for this period is paid


@dataclass(frozen=True, slots=True)
class Bought:
    """What a period was paid for: the price, with its id and product, and how many. `unpaid`: the invoices for more."""

    price: Json
    quantity: int | None
    unpaid: Sequence[Json] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Money:
    """What was found. `disputed` and `refunded` are None where nobody asked, or nothing of the period is paid yet.

    `bought` is there only where a change of price or quantity since then is not paid. `decides` is the invoice that the
    payment is judged by.
    """

    payment: Payment | None = None
    bought: Bought | None = None
    past_due_since: datetime | None = None
    disputed: bool | None = None
    refunded: bool | None = None
    decides: Json | None = field(default=None, compare=False)


_FAILED = ("past_due", "unpaid")
_NOT_FINAL = ("draft", "void")
# Marked uncollectible because the money did not come, not because a person forgave it or paused the collection.
_WRITTEN_OFF = ("max_payment_attempts", "payment_not_received")


def judge(subscription: Json, item: Json, invoices: Iterable[Json], catalog: Catalog, *, now: datetime) -> Money:
    """The money of a live subscription, from all of its invoices, or from the latest where that `settles` it."""
    known = sorted(invoices, key=_finalized, reverse=True)  # newest first
    plans = _for_the_plan(item, known, catalog)
    running = deciding(item, known, catalog)
    return Money(
        payment=_payment(subscription, running, known, plans, now),
        bought=_bought(subscription, item, running, known, catalog, now),
        past_due_since=_due_since(known, plans),
        decides=running,
    )


def covering(
    item: Json, invoices: Iterable[Json], catalog: Catalog, *, without: Collection[str] = _NOT_FINAL
) -> Sequence[Json]:
    """The invoices for the item's current period, newest first; drafts and void ones are none."""
    starts, ends = item.get("current_period_start") or 0, item.get("current_period_end") or 0
    recurring = (item.get("price") or {}).get("recurring") or {}
    # Use is billed once its period is over: the line ends where the running period begins.
    sides = ("start", "end") if recurring.get("usage_type") == "metered" else ("start",)

    def covers(invoice: Json) -> bool:
        periods = [line.get("period") or {} for line in plan_lines(invoice, item, catalog)]
        times = [period.get(side) or 0 for period in periods for side in sides]
        if is_first(invoice):  # a backdated one begins before the period does
            times += [(period.get("end") or 0) - 1 for period in periods]
        times += [invoice.get("created") or 0] if not times and is_cut_off(invoice) else []
        return invoice.get("status") not in without and any(starts <= time < ends for time in times)

    return sorted(filter(covers, invoices), key=_finalized, reverse=True)


def settles(subscription: Json, item: Json, catalog: Catalog) -> bool:
    """Whether the latest invoice came with the subscription and says that all is well: no other has to be read."""
    latest = subscription.get("latest_invoice")
    if latest is None or subscription.get("status") not in ("active", *_FAILED):
        return True
    paid = isinstance(latest, Mapping) and latest.get("status") == "paid" and subscription.get("status") == "active"
    return paid and bool(covering(item, [latest], catalog))


def _for_the_plan(item: Json, invoices: Iterable[Json], catalog: Catalog) -> list[Json]:
    """Those that bill the plan for a period, newest first."""
    known = sorted(invoices, key=_finalized, reverse=True)
    return [invoice for invoice in known if plan_lines(invoice, item, catalog) or is_cut_off(invoice)]


def deciding(item: Json, invoices: Collection[Json], catalog: Catalog) -> Json | None:
    """The invoice that decides about the current period, a void one where there is no other.

    At a renewal it is a draft for an hour, and the one before decides. A draft that Stripe will not finalize is what it
    makes while a subscription is unpaid: that decides nothing.
    """
    covers = covering(item, invoices, catalog, without=())
    newest = next((one for one in covers if one.get("status") not in _NOT_FINAL), next(iter(covers), None))
    if newest is None or newest.get("status") != "draft":
        return newest
    final = (invoice for invoice in _for_the_plan(item, invoices, catalog) if invoice.get("status") not in _NOT_FINAL)
    return next(final, None) if newest.get("auto_advance") else None


def _payment(
    subscription: Json, now: Json | None, known: Sequence[Json], plans: Sequence[Json], at: datetime
) -> Payment | None:
    status, was_paid = subscription.get("status"), any(map(_brought_money, plans))
    if status in _FAILED:
        something_else = any(map(is_owed, known)) and not _owed_for_the_plan(plans)
        if now is not None and (now.get("status") == "paid" or something_else):  # else it was voided or forgiven
            return Payment.PAID
        return Payment.FIRST_FAILED if known and not was_paid else None
    if status != "active" or subscription.get("pause_collection") or now is None or not is_owed(now):
        return None
    late = _is_hidden(now, known) and not _waits(now, at)  # else the status is its own
    if was_paid:
        return Payment.OVERDUE if late else None
    earlier = (invoice for invoice in plans if invoice is not now and is_owed(invoice))
    failed = late or any(not _waits(invoice, at) for invoice in earlier)
    return Payment.FIRST_FAILED if failed else Payment.FIRST_PENDING


def _is_hidden(invoice: Json, known: Sequence[Json]) -> bool:
    """Whether the status is a later invoice's: the latest finalized one decides it."""
    return next(one for one in known if one.get("status") not in _NOT_FINAL) is not invoice


def _owed_for_the_plan(plans: Sequence[Json]) -> list[Json]:
    """What is owed since the last invoice for the plan that was paid."""
    return [*filter(is_owed, takewhile(lambda invoice: invoice.get("status") != "paid", plans))]


def _waits(invoice: Json, at: datetime) -> bool:
    """Whether it was sent by mail and its date has not come: nothing has failed, whatever else was billed since."""
    return invoice.get("status") == "open" and (invoice.get("due_date") or 0) > at.timestamp()


def _brought_money(invoice: Json) -> bool:
    """Paid, by whatever means, with more than nothing: what a credit note took off an open invoice is no payment."""
    due = (invoice.get("total") or 0) - (invoice.get("pre_payment_credit_notes_amount") or 0)
    return invoice.get("status") == "paid" and due > 0


def _bought(
    subscription: Json, item: Json, running: Json | None, known: Sequence[Json], catalog: Catalog, at: datetime
) -> Bought | None:
    """What the period was paid for, where an invoice for a dearer price or for more is owed: by the newest paid one.

    While the subscription is active, its payment has failed only where a later invoice made it so.
    """
    if running is None or running.get("status") != "paid":
        return None
    later = [*takewhile(lambda invoice: invoice is not running, known)]
    unpaid = [invoice for invoice in later if is_owed(invoice) and raises(invoice, item)]
    if subscription.get("status") not in _FAILED:
        unpaid = [invoice for invoice in unpaid if _is_hidden(invoice, known) and not _waits(invoice, at)]
    if not unpaid:
        return None
    paid = [_plans_in(invoice, item, catalog) for invoice in [*later, running] if invoice.get("status") == "paid"]
    before = _plans_in(unpaid[-1], item, catalog, given_back=True)  # where Stripe shows no paid line of it
    lines = next(filter(None, [*paid, before]), [])
    if not lines:
        return None
    price = price_of(lines[0])  # several of one price are its tiers
    counted = [one["quantity"] for one in lines if price_of(one) == price and one.get("quantity") is not None]
    sold = {"id": price, "product": sold_by(lines[0]).get("product")}
    return Bought(sold, sum(counted) if counted else None, unpaid=unpaid)


def _plans_in(invoice: Json, item: Json, catalog: Catalog, *, given_back: bool = False) -> list[Json]:
    """The lines for the plan that take money, or those that give back what was paid for it before a change."""
    of_plan = [line for line in lines_of(invoice) if is_of_plan(line, item, catalog)]
    return [line for line in of_plan if ((line.get("amount") or 0) < 0) == given_back]


def _due_since(known: Sequence[Json], plans: Sequence[Json]) -> datetime | None:
    """Since when something is owed: the oldest unpaid invoice for the plan after the last paid one, else any's."""
    owed = _owed_for_the_plan(plans) or [invoice for invoice in known if is_owed(invoice)][:1]
    return min((due for invoice in owed if (due := time_of(_due(invoice)))), default=None)


def _due(invoice: Json) -> object:
    """When it had to be paid: one that is sent by mail has a date for that."""
    return invoice.get("due_date") or (invoice.get("status_transitions") or {}).get("finalized_at")


def is_owed(invoice: Json) -> bool:
    """Whether money is still wanted for it: open, or given up by Stripe. What a person forgave is not owed."""
    details = (invoice.get("status_details") or {}).get("uncollectible") or {}
    written_off = invoice.get("status") == "uncollectible" and details.get("reason") in _WRITTEN_OFF
    return invoice.get("status") == "open" or written_off


def _finalized(invoice: Json) -> tuple[float, float]:
    at = (invoice.get("status_transitions") or {}).get("finalized_at")
    return (at or invoice.get("created") or 0, invoice.get("created") or 0)
