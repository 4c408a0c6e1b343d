"""Events: every change that Stripe would announce, kept for the list and handed to the webhooks.

An event holds the object as it was at that moment. `emit` is the only way to make one.
"""

from collections.abc import Mapping
from typing import Any

from . import forms
from .calls import API_VERSION, Call, Route
from .errors import Json, bad_parameter, missing_object
from .lists import PAGING, page

SHOWN_WITHIN = 10  # of a list inside an object
_LISTS = {"invoice": "lines", "subscription": "items"}


def emit(call: Call, type: str, one: Json, *, previous: Mapping[str, Any] | None = None) -> Json:
    """Records the event; `previous` is the object before the change and becomes `previous_attributes`."""
    data: Json = {"object": visible(one)}
    if previous is not None:
        data["previous_attributes"] = {
            name: value
            for name, value in visible(previous).items()
            if data["object"].get(name) != value and name != "object"
        }
    event = call.store.put(
        "event",
        {
            "id": call.store.new_id("evt_1"),
            "object": "event",
            "api_version": API_VERSION,
            "created": call.wall,
            "data": data,
            "livemode": call.livemode,
            "pending_webhooks": 0,
            "request": {"id": call.request_id, "idempotency_key": call.idempotency_key},
            "type": type,
        },
    )
    call.on_event(event)
    return call.store.get("event", event["id"]) or event


def visible(one: Mapping[str, Any]) -> Json:
    """The object without the sandbox's own fields, and of a list in it what Stripe shows: the first ten."""
    shown = {name: value for name, value in one.items() if not name.startswith("_")}
    long = _LISTS.get(str(one.get("object")), "")
    if long in shown and len(shown[long]["data"]) > SHOWN_WITHIN:
        shown[long] = {**shown[long], "data": shown[long]["data"][:SHOWN_WITHIN], "has_more": True}
    return shown


def retrieve(call: Call, params: Json) -> Json:
    event = call.named("event", params["id"])
    if event["object"] != "event":
        raise missing_object("event", params["id"])
    return event


def list_events(call: Call, params: Json) -> Json:
    wanted = list(params.get("types") or [])
    if params.get("type"):
        if wanted:
            raise bad_parameter("You may only specify one of these parameters: type, types.", "types")
        wanted = [params["type"]]
    answered = params.get("delivery_success")
    oldest = call.wall - 30 * 86400  # Stripe lists the events of the last 30 days

    def keep(event: Json) -> bool:
        if event["object"] != "event":
            return False  # of v2 only
        if event["created"] < oldest or (wanted and not any(matches(event["type"], one) for one in wanted)):
            return False
        return answered is None or (event["pending_webhooks"] == 0) == answered

    return page(call, "event", params, "/v1/events", keep=keep)


def matches(type: str, pattern: str) -> bool:
    return pattern in ("*", type) or (pattern.endswith(".*") and type.startswith(pattern[:-1]))


ROUTES: list[Route] = [
    (
        "GET",
        "/v1/events",
        {
            **PAGING,
            "created": forms.created,
            "type": forms.text(),
            "types": forms.items(forms.identifier, 20),
            "delivery_success": forms.boolean,
        },
        list_events,
    ),
    ("GET", "/v1/events/{id}", {}, retrieve),
]
