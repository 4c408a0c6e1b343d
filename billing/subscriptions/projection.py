"""The projection: Stripe's plain dicts as rows of the table `subscriptions`, and the changes between two states. Pure.

Unknown fields are ignored, and missing ones are None: no answer of Stripe's raises.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from billing.catalog import Catalog, Plan
from billing.clock import add_months
from billing.rules.product_tag import is_tagged

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
    disputed: bool = False  # what paid the latest invoice
    refunded: bool = False


@dataclass(frozen=True, slots=True)
class PaymentStatus:
    """Whether the payment of a subscription's latest invoice is disputed or refunded."""

    disputed: bool
    refunded: bool


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
    """Whether the subscription is of our product: by our tag, or by an item whose price the catalog sells (SUB-2)."""
    return is_tagged(subscription, catalog.product) or any(
        catalog.plan_of_price(_price_id(item)) for item in _items(subscription)
    )


def project(
    subscription: Mapping[str, Any],
    *,
    customer_id: str,
    catalog: Catalog,
    schedule: Mapping[str, Any] | None,
    before: Subscription | None,
    now: datetime,
    payment: PaymentStatus | None = None,
) -> Subscription:
    """The row for a subscription as Stripe gives it (SUB-3).

    Stripe does not say since when it is past due: that is kept from the row `before`, or begins now. `payment` is None
    where it was not fetched: then the row's values are kept.
    """
    item = plan_item(subscription, catalog)
    plan = catalog.plan_of_price(_price_id(item))
    ends_at = planned_end(subscription)
    status = str(subscription.get("status"))
    since = (before.past_due_since if before else None) or now
    return Subscription(
        subscription_id=str(subscription["id"]),
        customer_id=customer_id,
        product=catalog.product if belongs(subscription, catalog) else None,
        plan=plan.key if plan else None,
        price_id=_price_id(item),
        quantity=item.get("quantity"),
        status=status,
        cancel_at_period_end=bool(subscription.get("cancel_at_period_end"))
        or (ends_at is not None and ends_at == item.get("current_period_end")),
        schedule_id=schedule_of(subscription),
        scheduled_plan=_next_plan(schedule, catalog, current=_price_id(item)),
        current_period_start=_time(item.get("current_period_start")),
        current_period_end=_time(item.get("current_period_end")),
        cancel_at=_time(ends_at),
        canceled_at=_time(subscription.get("canceled_at")),
        ended_at=_time(subscription.get("ended_at")),
        trial_end=_time(subscription.get("trial_end")),
        past_due_since=since if status == "past_due" else None,
        created_at=_time(subscription.get("created")) or now,
        commitment_ends_at=_commitment_end(subscription, item, plan),
        disputed=payment.disputed if payment else bool(before and before.disputed),
        refunded=payment.refunded if payment else bool(before and before.refunded),
    )


def plan_item(subscription: Mapping[str, Any], catalog: Catalog) -> Mapping[str, Any]:
    """The plan's own item: its price and its period are the subscription's for us (SUB-3). Empty without one."""
    items = _items(subscription)
    return next((item for item in items if catalog.plan_of_price(_price_id(item))), items[0] if items else {})


def planned_end(subscription: Mapping[str, Any]) -> int | None:
    """When it ends as planned, in epoch seconds. `cancel_at_period_end` means the end of its item that ends first."""
    if (ends_at := subscription.get("cancel_at")) or not subscription.get("cancel_at_period_end"):
        return ends_at if isinstance(ends_at, int) else None
    ends = [item.get("current_period_end") for item in _items(subscription)]
    return min((end for end in ends if isinstance(end, int)), default=None)


def schedule_of(subscription: Mapping[str, Any]) -> str | None:
    """The id of the schedule that governs it, expanded or not."""
    return _id(subscription.get("schedule"))


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


def _commitment_end(subscription: Mapping[str, Any], item: Mapping[str, Any], plan: Plan | None) -> datetime | None:
    """The end of the commitment: whole terms in calendar months from the billing cycle's anchor (SUB-67).

    Not from the period's start, which after a short month is a day of that month. A free time binds no buyer: the term
    begins when a trial ends or billing starts.
    """
    start = _time(item.get("current_period_start"))
    if plan is None or plan.commitment_months is None or start is None or not is_live(str(subscription.get("status"))):
        return None
    if subscription.get("status") == "trialing":
        start = max(start, _time(subscription.get("trial_end")) or start)
    anchor = _time(subscription.get("billing_cycle_anchor")) or start
    start = max(start, anchor)  # no commitment before billing starts
    terms = max(0, (start.year - anchor.year) * 12 + start.month - anchor.month) // plan.commitment_months
    while (ends := add_months(anchor, terms * plan.commitment_months)) <= start:
        terms += 1
    return ends


def _items(subscription: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = (subscription.get("items") or {}).get("data") or []
    return [item for item in items if isinstance(item, Mapping)]


def _price_id(item: Mapping[str, Any]) -> str | None:
    return _id(item.get("price"))


def _id(value: object) -> str | None:
    """The id, from an id or an expanded object."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else None


def _next_plan(schedule: Mapping[str, Any] | None, catalog: Catalog, *, current: str | None) -> str | None:
    """The plan of the schedule's next phase, when it is another one."""
    if not schedule or schedule.get("status") not in ("active", "not_started"):
        return None
    phase = schedule.get("current_phase") or {}
    ends = phase.get("end_date") or 0
    coming = [later for later in schedule.get("phases") or [] if (later.get("start_date") or 0) >= ends]
    for later in sorted(coming, key=lambda later: later.get("start_date") or 0):
        for item in later.get("items") or []:
            price = _price_id(item)
            plan = catalog.plan_of_price(price)
            if plan and price != current:
                return plan.key
    return None


def _time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
