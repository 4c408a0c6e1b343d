"""Test clocks: customers who live in a time of their own, which is moved forward by hand.

`calls.py` says what is in that time. An advance is answered at once, as `advancing`; `cycle.py` then does what is due
on the way, before anything else is asked for.
"""

from . import balances, customers, forms
from .calls import Call, Route
from .clock_limits import check_subscriptions, farthest, spoken
from .errors import ApiError, Json, bad_parameter, refused, unsupported
from .events import emit
from .lists import PAGING, page

NOUN = "billingclock"  # Stripe's own word for it, in its errors
_LASTS = 30 * 86400
_BELONGS = ("subscription", "subscription_schedule", "invoice", "invoiceitem")


def create(call: Call, params: Json) -> Json:
    if call.livemode:
        raise ApiError(400, "Test clocks are only available in test mode.")
    forms.require(params, "frozen_time")
    one = call.store.put(
        "test_clock",
        {
            "id": call.store.new_id("clock_1"),
            "object": "test_helpers.test_clock",
            "created": call.wall,
            "deletes_after": call.wall + _LASTS,
            "frozen_time": params["frozen_time"],
            "livemode": False,
            "name": params.get("name"),
            "status": "ready",
            "status_details": {},
            "_due": float(call.wall + _LASTS),
        },
    )
    emit(call, "test_helpers.test_clock.created", one)
    if params.get("customer"):
        _attach(call, one, balances.alive(call, params["customer"]))
    return one


def _attach(call: Call, clock: Json, customer: Json) -> None:
    """A customer who was there before, with everything that is theirs. It cannot be taken back."""
    if customer["test_clock"]:
        raise refused("This customer is already attached to a test clock.", param="customer")
    if clock["frozen_time"] < call.wall:
        raise unsupported("a test clock that takes an existing customer back in time", "frozen_time")
    check_subscriptions(call, customer["id"], adding=0)
    for kind in _BELONGS:
        for one in list(call.store.newest_first(kind, customer=customer["id"])):
            call.store.change(kind, one["id"], test_clock=clock["id"])
    customers.changed(call, customer, test_clock=clock["id"])


def retrieve(call: Call, params: Json) -> Json:
    return call.named("test_clock", params["id"], noun=NOUN)


def advance(call: Call, params: Json) -> Json:
    old = call.named("test_clock", params["id"], noun=NOUN)
    forms.require(params, "frozen_time")
    now, target = old["frozen_time"], params["frozen_time"]
    if target <= now:
        raise bad_parameter(f"The frozen time of this clock is {spoken(now)}. It can only be advanced.", "frozen_time")
    if target > (latest := farthest(call, old)):
        raise bad_parameter(
            f"The frozen time of this clock is {spoken(now)}. You can only advance it up to {spoken(latest)}. You can"
            " only advance a test clock up to two intervals from the current frozen time at a time, based on the"
            " shortest subscription interval in the test clock. For example, if a test clock has a monthly and yearly"
            " subscription, you may only advance up to two months at a time. If the test clock has no subscriptions or"
            " subscription schedules, you can advance up to 2 years from the current frozen time.",
            "frozen_time",
        )
    details = {"advancing": {"target_frozen_time": target}}
    one = call.store.change("test_clock", old["id"], status="advancing", status_details=details, _due=call.time)
    emit(call, "test_helpers.test_clock.advancing", one)
    return one


def moved(call: Call, id: str, moment: float) -> None:
    """On the way: what happens now happens at this moment of the clock, which never goes back."""
    now = call.named("test_clock", id)["frozen_time"]
    call.store.change("test_clock", id, frozen_time=max(now, int(moment)))


def arrived(call: Call, id: str, target: int) -> None:
    moved(call, id, target)
    due = float(call.named("test_clock", id)["deletes_after"])
    one = call.store.change("test_clock", id, status="ready", status_details={}, _due=due)
    emit(call, "test_helpers.test_clock.ready", one)


def delete(call: Call, params: Json) -> Json:
    """The clock, its customers and what they were billed for. What is left of them lives in the sandbox's own time."""
    one = call.named("test_clock", params["id"], noun=NOUN)
    for customer in call.store.all("customer"):
        if customer["test_clock"] == one["id"] and not customer.get("deleted"):
            customers.delete(call, {"id": customer["id"]})
    call.store.remove("test_clock", one["id"])
    emit(call, "test_helpers.test_clock.deleted", one)
    return {"id": one["id"], "object": one["object"], "deleted": True}


_MOMENT = forms.integer(0, 32_503_680_000)  # the year 3000: the calendar goes on from there
_ONE = "/v1/test_helpers/test_clocks/{id}"

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/test_helpers/test_clocks",
        {"customer": forms.text(), "frozen_time": _MOMENT, "name": forms.text(300)},
        create,
    ),
    (
        "GET",
        "/v1/test_helpers/test_clocks",
        PAGING,
        lambda call, params: page(call, "test_clock", params, "/v1/test_helpers/test_clocks", noun=NOUN),
    ),
    ("GET", _ONE, {}, retrieve),
    ("DELETE", _ONE, {}, delete),
    ("POST", f"{_ONE}/advance", {"frozen_time": _MOMENT}, advance),
]
