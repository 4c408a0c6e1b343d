"""How much may live on one test clock, and how far it may be advanced at once."""

from datetime import UTC, datetime

from .calls import Call
from .errors import Json, refused
from .periods import step
from .subscription_objects import ENDED

_CUSTOMERS = 3  # on a clock
_SUBSCRIPTIONS = 3  # of each of its customers, with the schedules that are still to begin one
_TWO_YEARS: Json = {"interval": "year", "interval_count": 2}


def check_customers(call: Call) -> None:
    """Before one more is put on the clock that this call is about."""
    on_it = [one for one in call.store.all("customer") if one["test_clock"] == call.test_clock]
    if call.test_clock and sum(not one.get("deleted") for one in on_it) >= _CUSTOMERS:
        raise refused(f"You can add up to {_CUSTOMERS} customers to each test clock.", param="test_clock")


def check_subscriptions(call: Call, customer: str, *, adding: int = 1) -> None:
    """Before one more subscription, or a schedule that will begin one, of a customer who lives on a test clock."""
    alive = sum(one["status"] not in ENDED for one in call.store.newest_first("subscription", customer=customer))
    schedules = call.store.newest_first("subscription_schedule", customer=customer)
    if alive + sum(one["status"] == "not_started" for one in schedules) + adding > _SUBSCRIPTIONS:
        raise refused(
            f"You can create up to {_SUBSCRIPTIONS} subscriptions or subscription schedules for each customer of a test"
            " clock.",
            param="customer",
        )


def farthest(call: Call, clock: Json) -> int:
    """Two of the shortest intervals of what is subscribed to or scheduled on it; two years where that is nothing."""
    rhythms = [
        item["price"]["recurring"]
        for one in call.store.all("subscription")
        if one["test_clock"] == clock["id"] and one["status"] not in ENDED
        for item in one["items"]["data"]
    ]
    rhythms += [
        (call.store.get("price", item["price"]) or {})["recurring"]
        for one in call.store.all("subscription_schedule")
        if one["test_clock"] == clock["id"] and one["status"] in ("not_started", "active")
        for phase in one["phases"]
        for item in phase["items"]
    ]
    now = clock["frozen_time"]
    return min((step(now, each, 2) for each in rhythms), default=step(now, _TWO_YEARS))


def spoken(moment: int) -> str:
    """As Stripe's refusals say a moment: `1732320000 (2024-11-23 00:00:00 UTC)`."""
    return f"{moment} ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC)"
