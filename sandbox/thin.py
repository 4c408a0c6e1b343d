"""Thin events: the v2 API's way to say that something changed, by an id and nothing of the object.

Each event has one: an endpoint that was configured as thin is sent the notification, and `/v2/core/events` gives it
back by its own id. Those that exist in v2 only (Stripe's health alerts) are announced by the control plane.
"""

from datetime import UTC, datetime

from .calls import Call, Route
from .errors import ApiError, Json

THIN = "v2.core.event"
# Where an object of a kind is read.
_PATHS = {
    "charge": "/v1/charges",
    "checkout.session": "/v1/checkout/sessions",
    "customer": "/v1/customers",
    "dispute": "/v1/disputes",
    "invoice": "/v1/invoices",
    "payment_intent": "/v1/payment_intents",
    "subscription": "/v1/subscriptions",
    "subscription_schedule": "/v1/subscription_schedules",
    "test_helpers.test_clock": "/v1/test_helpers/test_clocks",
}
_PREFIX = "evt_test_"


def is_thin(event: Json) -> bool:
    """Whether it exists in v2 only."""
    return bool(event["object"] == THIN)


def notification(event: Json) -> Json:
    """What is sent: the same without what has to be fetched."""
    return {name: value for name, value in shown(event).items() if name not in ("data", "changes", "snapshot_event")}


def shown(event: Json) -> Json:
    """What a GET answers."""
    if is_thin(event):
        own = {name: value for name, value in event.items() if name != "pending_webhooks"}
        return {**own, "created": _iso(event["created"])}
    return {
        "id": event["id"].replace("evt_", _PREFIX, 1),
        "object": THIN,
        "changes": None,
        "context": None,
        "created": _iso(event["created"]),
        "livemode": event["livemode"],
        "reason": {"type": "request", "request": event["request"]} if event["request"]["id"] else None,
        "related_object": related(event["data"]["object"]),
        "snapshot_event": event["id"],
        "type": f"v1.{event['type']}",
    }


def related(one: Json) -> Json | None:
    """An object as an event names it; None for those without an id or an address here."""
    path = _PATHS.get(one["object"])
    return {"id": one["id"], "type": one["object"], "url": f"{path}/{one['id']}"} if path and "id" in one else None


def announce(call: Call, type: str, *, named: Json | None = None, data: Json | None = None) -> Json:
    """An event of v2 alone, sent to every thin endpoint that wants its type."""
    event = call.store.put(
        "event",
        {
            "id": call.store.new_id(_PREFIX),
            "object": THIN,
            "changes": None,
            "context": None,
            "created": call.now,
            "data": data,
            "livemode": call.livemode,
            "pending_webhooks": 0,
            "reason": None,
            **({"related_object": named} if named else {}),
            "type": type,
        },
    )
    call.on_event(event)
    return event


def retrieve(call: Call, params: Json) -> Json:
    """GET /v2/core/events/{id}, with v2's words for what is missing."""
    id = str(params["id"])
    event = call.find("event", id) or call.find("event", id.replace(_PREFIX, "evt_", 1))
    if event is None or shown(event)["id"] != id:
        raise ApiError(404, f"Event {id} not found.", code="not_found")
    return shown(event)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


ROUTES: list[Route] = [("GET", "/v2/core/events/{id}", {}, retrieve)]
