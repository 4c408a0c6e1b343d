"""What single fields of a subscription and its schedule say: items, times, the plan to come, the commitment. Pure.

Unknown fields are ignored, and missing ones are None: no answer of Stripe's raises.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.catalog import Catalog, Plan
from billing.clock import add_months

SHORT_MONTH = timedelta(days=3)  # from 28 February to a 31st


def commitment_end(subscription: Mapping[str, Any], item: Mapping[str, Any], plan: Plan | None) -> datetime | None:
    """The end of the commitment: the plan's own period, else whole terms from the billing cycle's anchor (SUB-67).

    Not from the period's start, which after a short month is a day of that month. A free time binds no buyer: the term
    begins when a trial ends or billing starts.
    """
    start = time_of(item.get("current_period_start"))
    if plan is None or plan.commitment_months is None or start is None:
        return None
    start = max(start, time_of(subscription.get("trial_end")) or start)
    anchor = time_of(subscription.get("billing_cycle_anchor")) or start
    ends_at = time_of(item.get("current_period_end"))
    if ends_at and abs(ends_at - add_months(start, plan.commitment_months)) <= SHORT_MONTH:
        return ends_at  # the term is its own period, also where another item set the anchor
    start = max(start, anchor)  # no commitment before billing starts
    terms = max(0, (start.year - anchor.year) * 12 + start.month - anchor.month) // plan.commitment_months
    while (ends := add_months(anchor, terms * plan.commitment_months)) <= start:
        terms += 1
    return ends


def next_plan(schedule: Mapping[str, Any] | None, catalog: Catalog, *, current: Plan | None) -> str | None:
    """The plan of the schedule's next phase, when it is another one; a new price of the same plan is not (SUB-76)."""
    if not schedule or schedule.get("status") not in ("active", "not_started"):
        return None
    phase = schedule.get("current_phase") or {}
    ends = phase.get("end_date") or 0
    coming = [later for later in schedule.get("phases") or [] if (later.get("start_date") or 0) >= ends]
    for later in sorted(coming, key=lambda later: later.get("start_date") or 0):
        for item in later.get("items") or []:
            plan = catalog.plan_sold_as(item.get("price"))
            if plan and plan != current:
                return plan.key
    return None


def items_of(subscription: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The items; none where there are none."""
    items = (subscription.get("items") or {}).get("data") or []
    return [item for item in items if isinstance(item, Mapping)]


def price_id_of(item: Mapping[str, Any]) -> str | None:
    return id_of(item.get("price"))


def id_of(value: object) -> str | None:
    """The id, from an id or an expanded object."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else None


def time_of(seconds: object) -> datetime | None:
    """Epoch seconds as a time; None for anything else."""
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
