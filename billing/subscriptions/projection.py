"""The projection: Stripe's plain dicts as rows of the table `subscriptions`, and the changes between two states. Pure.

Unknown fields are ignored, and missing ones are None: no answer of Stripe's raises.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from billing.catalog import Catalog, Plan
from billing.rules.product_tag import is_tagged, nonce_of
from billing.subscriptions.invoices import Money, Payment
from billing.subscriptions.stripe_fields import commitment_end, id_of, items_of, next_plan, price_id_of, time_of

# A subscription in one of these is over. In any other status, also in one that Stripe adds, it counts as live.
ENDED = frozenset({"canceled", "incomplete_expired"})
GRANTING = frozenset({"active", "trialing"})


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row of `subscriptions`, column by column."""

    subscription_id: str
    customer_id: str
    product: str | None  # None: not of our product
    plan: str | None
    price_id: str | None
    quantity: int | None
    status: str
    cancel_at_period_end: bool
    schedule_id: str | None
    scheduled_plan: str | None
    current_period_start: datetime | None
    current_period_end: datetime | None
    cancel_at: datetime | None
    canceled_at: datetime | None
    ended_at: datetime | None
    trial_end: datetime | None
    past_due_since: datetime | None
    created_at: datetime
    commitment_ends_at: datetime | None = None
    disputed: bool = False  # what paid the current period
    refunded: bool = False
    payment: str | None = None  # a `Payment`; None: the status says it all
    collection_paused: str | None = None  # what becomes of the invoices meanwhile
    collection_resumes_at: datetime | None = None
    # Of the attempt that made it. No change to tell of: rows of an earlier version get theirs with the next sync.
    nonce: str | None = field(default=None, compare=False)
    # The time of the test clock that it lives on. Moving it is no change of the subscription.
    frozen_at: datetime | None = field(default=None, compare=False)


# The changes that are sent to the application; specs/subscriptions.md says when each occurs.
CHANGES = frozenset(
    f"subscription.{word}"
    for word in ("created", "activated", "updated", "past_due", "unpaid", "paused", "canceled", "expired")
)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one subscription between two syncs; `after` is None when Stripe no longer knows it."""

    kind: str
    before: Subscription | None
    after: Subscription | None

    @property
    def subject(self) -> Subscription:
        """The subscription as it is, or as it last was."""
        subject = self.after or self.before
        assert subject is not None, "a change has at least one side"
        return subject


def is_live(status: str) -> bool:
    """Whether a subscription in this Stripe status blocks a second one (SUB-1)."""
    return status not in ENDED


def belongs(subscription: Mapping[str, Any], catalog: Catalog) -> bool:
    """Whether the subscription is of our product: by our tag, or by an item that the catalog sells or sold (SUB-2).

    The tag alone blocks a second sale. It gives no access: that is by what the catalog sells (SUB-73).
    """
    return is_tagged(subscription, catalog.product) or any(
        catalog.plan_sold_as(item.get("price")) for item in items_of(subscription)
    )


def project(
    subscription: Mapping[str, Any],
    *,
    customer_id: str,
    catalog: Catalog,
    schedule: Mapping[str, Any] | None,
    before: Subscription | None,
    now: datetime,
    money: Money | None = None,
    frozen_at: datetime | None = None,
) -> Subscription:
    """The row for a subscription as Stripe gives it (SUB-3).

    `money` is None where it was not fetched: then the row's values are kept. Since when it is past due, its invoices
    say (SUB-7); where none does, the row `before`, or it begins now.
    """
    item = plan_item(subscription, catalog)
    plan = catalog.plan_sold_as(item.get("price"))
    paid_plan, quantity = _paid_for(item, money, catalog)
    ends_at = planned_end(subscription)
    status = str(subscription.get("status"))
    pause = subscription.get("pause_collection") or {}
    payment = money.payment if money else (before.payment if before and is_live(status) else None)
    is_due = status == "past_due" or payment == Payment.OVERDUE
    since = (money.past_due_since if money else None) or (before.past_due_since if before else None) or now
    return Subscription(
        subscription_id=str(subscription["id"]),
        customer_id=customer_id,
        product=catalog.product if belongs(subscription, catalog) else None,
        plan=paid_plan.key if paid_plan else None,
        price_id=price_id_of(item),
        quantity=quantity,
        status=status,
        cancel_at_period_end=bool(subscription.get("cancel_at_period_end"))
        or (ends_at is not None and ends_at == item.get("current_period_end")),
        schedule_id=schedule_of(subscription),
        scheduled_plan=next_plan(schedule, catalog, current=plan),
        current_period_start=time_of(item.get("current_period_start")),
        current_period_end=time_of(item.get("current_period_end")),
        cancel_at=time_of(ends_at),
        canceled_at=time_of(subscription.get("canceled_at")),
        ended_at=time_of(subscription.get("ended_at")),
        trial_end=time_of(subscription.get("trial_end")),
        past_due_since=since if is_due else None,
        created_at=time_of(subscription.get("created")) or now,
        commitment_ends_at=commitment_end(subscription, item, plan) if is_live(status) else None,
        disputed=_known(money.disputed if money else None, bool(before and before.disputed)),
        refunded=_known(money.refunded if money else None, bool(before and before.refunded)),
        payment=payment.value if isinstance(payment, Payment) else payment,
        collection_paused=str(pause.get("behavior")) if pause else None,
        collection_resumes_at=time_of(pause.get("resumes_at")),
        nonce=nonce_of(subscription),
        frozen_at=frozen_at,
    )


def _paid_for(item: Mapping[str, Any], money: Money | None, catalog: Catalog) -> tuple[Plan | None, int | None]:
    """The plan and the quantity: those that the period was paid for, while a change since then is not (SUB-121)."""
    if money and money.bought and (plan := catalog.plan_sold_as(money.bought.price)):
        return plan, money.bought.quantity
    return catalog.plan_sold_as(item.get("price")), item.get("quantity")


def _known(now: bool | None, before: bool) -> bool:
    return before if now is None else now


def begins_ours(schedule: Mapping[str, Any], catalog: Catalog) -> bool:
    """Whether a schedule that has not begun will begin a subscription of our product: by our tag, or by a price."""
    items = [item for phase in schedule.get("phases") or [] for item in phase.get("items") or []]
    return is_tagged(schedule, catalog.product) or any(catalog.plan_sold_as(item.get("price")) for item in items)


def plan_item(subscription: Mapping[str, Any], catalog: Catalog) -> Mapping[str, Any]:
    """The plan's own item: its price and its period are the subscription's for us (SUB-3). Empty without one.

    A price that the catalog names goes before one that only has its product, such as an add-on's. Of several plans the
    one counts whose period ends last: so nobody loses a time that was paid for.
    """
    items = items_of(subscription)
    last_first = sorted(items, key=lambda item: item.get("current_period_end") or 0, reverse=True)
    named = (item for item in last_first if catalog.plan_of_price(price_id_of(item)))
    sold = (item for item in last_first if catalog.plan_sold_as(item.get("price")))
    return next(chain(named, sold, items), {})


def plan_prices(subscription: Mapping[str, Any], catalog: Catalog) -> Sequence[str]:
    """The prices of plans that it bills. More than one is somebody's mistake: an item added where one was meant to go.

    Where the catalog names one of them, another price of a plan's product is an add-on.
    """
    prices = [item.get("price") for item in items_of(subscription)]
    named = [id_ for price in prices if (id_ := id_of(price)) and catalog.plan_of_price(id_)]
    return named or [id_ for price in prices if (id_ := id_of(price)) and catalog.plan_sold_as(price)]


def planned_end(subscription: Mapping[str, Any]) -> int | None:
    """When it ends as planned, in epoch seconds. `cancel_at_period_end` means the end of its item that ends first."""
    if (ends_at := subscription.get("cancel_at")) or not subscription.get("cancel_at_period_end"):
        return ends_at if isinstance(ends_at, int) else None
    ends = [item.get("current_period_end") for item in items_of(subscription)]
    return min((end for end in ends if isinstance(end, int)), default=None)


def schedule_of(subscription: Mapping[str, Any]) -> str | None:
    """The id of the schedule that governs it, expanded or not."""
    return id_of(subscription.get("schedule"))


def differences(before: Iterable[Subscription], after: Iterable[Subscription]) -> Sequence[Change]:
    """One change for each subscription of our product that differs (SUB-4), ordered by id."""
    old, new = ({row.subscription_id: row for row in rows} for rows in (before, after))
    changes = []
    for id_ in sorted(old.keys() | new.keys()):
        was, now = old.get(id_), new.get(id_)
        ours = (was is not None and was.product is not None) or (now is not None and now.product is not None)
        if ours and was != now:
            changes.append(Change(_kind(was, now), was, now))
    return changes


def changed_fields(change: Change) -> list[str]:
    """The names of the columns that differ; `missing` or `gone` where one side does not exist."""
    if change.before is None or change.after is None:
        return ["missing" if change.before is None else "gone"]
    return [name for name in Subscription.__slots__ if getattr(change.before, name) != getattr(change.after, name)]


def _kind(was: Subscription | None, now: Subscription | None) -> str:
    """The kind of a change, by the status before and after."""
    before, after = was.status if was else None, now.status if now else "canceled"
    if before == after:
        return "subscription.updated"
    if after in GRANTING:
        # From trial to paid: access was granted before, too.
        return "subscription.updated" if before in GRANTING else "subscription.activated"
    if after in ENDED:
        return "subscription.canceled" if after == "canceled" else "subscription.expired"
    if after in ("past_due", "unpaid", "paused"):
        return f"subscription.{after}"
    return "subscription.created" if before is None else "subscription.updated"


def has_begun(status: str) -> bool:
    """Whether a subscription has ever begun: before its first payment it has not."""
    return status not in ("incomplete", "incomplete_expired")
