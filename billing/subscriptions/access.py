"""Access: whether a user may use the product, why, and until when. Pure.

Decided by the catalog's rules from the subscriptions and their money as last fetched from Stripe, never from an event
or a redirect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from billing.catalog import AccessRules
from billing.clock import iso
from billing.subscriptions.client_data import ClientData
from billing.subscriptions.invoices import Payment
from billing.subscriptions.projection import Subscription, has_begun

DEFAULT = AccessRules()


class AccessReason(StrEnum):
    """What decided about access. A later version may add reasons: treat one that you do not know by `granted` alone."""

    ACTIVE = "active"
    TRIALING = "trialing"
    PERIOD_PAID = "period_paid"
    PAST_DUE_GRACE = "past_due_grace"
    PRODUCT_TRIAL = "product_trial"
    FIRST_PAYMENT_PENDING = "first_payment_pending"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    INCOMPLETE = "incomplete"
    PAUSED = "paused"
    CANCELED = "canceled"
    COLLECTION_PAUSED = "collection_paused"
    DISPUTED = "disputed"
    REFUNDED = "refunded"
    NOT_SOLD = "not_sold"
    NO_SUBSCRIPTION = "no_subscription"
    UNKNOWN_STATUS = "unknown_status"


@dataclass(frozen=True, slots=True)
class Access:
    """The decision. `until` is when a granted access ends as planned now; None when no end is planned."""

    granted: bool
    reason: AccessReason
    until: datetime | None = None


def decide_access(
    rows: Sequence[Subscription],
    now: datetime,
    rules: AccessRules = DEFAULT,
    *,
    trial_ends_at: datetime | None = None,
) -> Access:
    """The best that any subscription gives (SUB-10 to SUB-15), else what is left of the product trial."""
    chosen = choose(rows, now, rules)
    access = Access(False, AccessReason.NO_SUBSCRIPTION) if chosen is None else _decide(chosen, now, rules)
    on_trial = trial_ends_at is not None and now < trial_ends_at and not any(has_begun(row.status) for row in rows)
    return Access(True, AccessReason.PRODUCT_TRIAL, trial_ends_at) if on_trial else access


def choose(rows: Sequence[Subscription], now: datetime, rules: AccessRules = DEFAULT) -> Subscription | None:
    """The subscription that decides: a granting one before a live one, a live one before an ended one.

    Of equal ones, the longest access decides, then the newest.
    """
    return max(rows, key=lambda row: _rank(row, now, rules), default=None)


def describe(row: Subscription, said: ClientData | None) -> dict[str, Any]:
    """A subscription as buyers and the application see it, with what the client `said` when it was bought."""
    return {
        "id": row.subscription_id,
        "plan": row.plan,
        "status": row.status,
        "quantity": row.quantity,
        "cancel_at_period_end": row.cancel_at_period_end,
        "current_period_start": iso(row.current_period_start),
        "current_period_end": iso(row.current_period_end),
        "cancel_at": iso(row.cancel_at),
        "canceled_at": iso(row.canceled_at),
        "ended_at": iso(row.ended_at),
        "trial_end": iso(row.trial_end),
        "past_due_since": iso(row.past_due_since),
        "commitment_ends_at": iso(row.commitment_ends_at),
        "disputed": row.disputed,
        "refunded": row.refunded,
        "payment": row.payment,
        "pause_collection": _pause(row),
        "scheduled_plan": row.scheduled_plan,
        "created_at": iso(row.created_at),
        **(said or ClientData()).as_json(),
    }


def _pause(row: Subscription) -> dict[str, Any] | None:
    if row.collection_paused is None:
        return None
    return {"behavior": row.collection_paused, "resumes_at": iso(row.collection_resumes_at)}


def describe_access(access: Access) -> dict[str, Any]:
    """The decision as buyers and the application see it."""
    return {"granted": access.granted, "reason": access.reason.value, "until": iso(access.until)}


def _decide(row: Subscription, now: datetime, rules: AccessRules) -> Access:
    now = row.frozen_at or now  # all its times are those of its test clock (SUB-119)
    access = _by_status(row, now, rules)
    if access.granted and row.plan is None:
        return Access(False, AccessReason.NOT_SOLD)  # our tag alone (SUB-73)
    if access.granted and rules.collection_paused == "deny" and _is_paused(row, now):
        return Access(False, AccessReason.COLLECTION_PAUSED)
    if access.granted and row.disputed and rules.disputed == "deny":
        return Access(False, AccessReason.DISPUTED)
    if access.granted and row.refunded and rules.refunded == "deny":
        return Access(False, AccessReason.REFUNDED)
    return access


def _by_status(row: Subscription, now: datetime, rules: AccessRules) -> Access:
    match row.status, row.payment:
        case (("past_due" | "unpaid"), Payment.PAID) if _is_within_period(row, now):
            return _until_planned_end(row, AccessReason.PERIOD_PAID, now, most=row.current_period_end)
        case (("active" | "past_due"), Payment.FIRST_FAILED):
            return Access(False, AccessReason.PAST_DUE)  # grace is for who has paid before
        case "active", Payment.FIRST_PENDING if rules.first_payment_pending == "deny":
            return Access(False, AccessReason.FIRST_PAYMENT_PENDING)
        case ("past_due", _) | ("active", Payment.OVERDUE):
            ends = (row.past_due_since or now) + timedelta(days=rules.past_due_grace_days)
            if now < ends:
                return _until_planned_end(row, AccessReason.PAST_DUE_GRACE, now, most=ends)
            return Access(False, AccessReason.PAST_DUE)
        case ("active" | "trialing") as status, _:
            return _until_planned_end(row, AccessReason(status), now)
        case "unpaid", Payment.FIRST_FAILED:
            return Access(False, AccessReason.UNPAID)
        case ("unpaid" | "paused") as status, _ if getattr(rules, status) == "grant":
            return _until_planned_end(row, AccessReason(status), now)
        case ("unpaid" | "incomplete" | "paused" | "canceled") as status, _:
            return Access(False, AccessReason(status))
        case "incomplete_expired", _:
            return Access(False, AccessReason.NO_SUBSCRIPTION)  # the first payment never came: there never was one
        case _:
            return Access(False, AccessReason.UNKNOWN_STATUS)


def _is_paused(row: Subscription, now: datetime) -> bool:
    """Whether collecting is paused. Its end may have come without an event, so the time itself ends the pause."""
    return row.collection_paused is not None and (row.collection_resumes_at is None or now < row.collection_resumes_at)


def _is_within_period(row: Subscription, now: datetime) -> bool:
    return row.current_period_end is not None and now < row.current_period_end


def _until_planned_end(
    row: Subscription, reason: AccessReason, now: datetime, *, most: datetime | None = None
) -> Access:
    """Grant until the planned end, or `most`. Its event may not have come yet: the time itself ends the access."""
    ends = min(filter(None, (_planned_end(row), most)), default=None)
    return Access(True, reason, ends) if ends is None or now < ends else Access(False, AccessReason.CANCELED)


def _planned_end(row: Subscription) -> datetime | None:
    ends = [row.cancel_at, row.current_period_end if row.cancel_at_period_end else None]
    return min((end for end in ends if end is not None), default=None)


def _rank(row: Subscription, now: datetime, rules: AccessRules) -> tuple[int, float, float]:
    access = _decide(row, now, rules)
    if access.granted:
        order = 4
    elif access.reason is AccessReason.NO_SUBSCRIPTION:
        order = 1
    else:
        order = 2 if access.reason is AccessReason.CANCELED else 3
    until = access.until.timestamp() if access.until else float("inf")
    return order, until, row.created_at.timestamp()
