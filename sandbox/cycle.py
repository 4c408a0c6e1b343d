"""What passing time does: sessions expire, subscriptions renew or end, keys are forgotten.

Nothing runs by itself. `tick` is called before each request and now and then by the server; it takes what is due by
the sandbox's clock, one object after the other, each at the moment that it was due.
"""

from collections.abc import Callable

from . import checkout_sessions, idempotency, lifecycle, schedules, subscription_objects
from .calls import Call
from .errors import Json
from .events import emit
from .paid_events import announce
from .store import Store

_MOST = 5_000  # a clock moved by a century must not renew daily plans for ever


def tick(store: Store, now: float, call_at: Callable[[float, bool], Call]) -> int:
    """How many objects were due. `call_at(time, livemode)` makes the call under which their changes happen."""
    for done in range(_MOST):
        found = store.next_due(now)
        if found is None:
            return done
        at, kind, one = found
        call = call_at(at, bool(one.get("livemode")))
        match kind:
            case "checkout_session":
                checkout_sessions.expired(call, one)
            case "idempotency_key":
                idempotency.forget(store, one["id"])
            case "subscription":
                _subscription(call, one)
    return _MOST


def _subscription(call: Call, one: Json) -> None:
    if one["status"] == "incomplete":
        lifecycle.abandon(call, one)
        return
    if one["cancel_at"] is not None and one["cancel_at"] <= call.now:
        lifecycle.end(call, one)
        return
    if one["schedule"]:
        one = schedules.enter_next_phase(call, one)
    if one["status"] not in subscription_objects.ENDED:
        _renew(call, one)


def _renew(call: Call, old: Json) -> None:
    """The next period. A subscription in arrears is tried and declined again; a paused collection bills nothing."""
    one = lifecycle.next_period(call, old)
    billed = None
    if old["pause_collection"] is None and old["status"] != "unpaid":
        card = call.find("payment_method", one["default_payment_method"])
        failing = old["status"] == "past_due"
        one, billed = lifecycle.charge_period(
            call, one, reason="subscription_cycle", method=card, outcome="failed" if failing else "paid"
        )
    emit(call, "customer.subscription.updated", one, previous=old)
    if billed is not None:
        announce(call, billed)
