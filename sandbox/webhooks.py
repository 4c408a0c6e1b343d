"""Webhook endpoints: which events go where. The signing secret is shown once, by the answer that creates one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import forms, thin
from .calls import API_VERSION, Call, Route
from .errors import Json
from .events import matches
from .lists import PAGING, page
from .store import Store


@dataclass(frozen=True)
class Endpoint:
    """A webhook endpoint that is there from the start. No types: all of them. Several secrets stand between commas."""

    url: str
    secret: str
    types: tuple[str, ...] = ()


_ADDRESS = forms.text(5000, pattern=r"https?://.+")


def create(call: Call, params: Json) -> Json:
    forms.require(params, "url", "enabled_events")
    one = made(
        call,
        params["url"],
        types=params["enabled_events"],
        description=params.get("description"),
        metadata=params.get("metadata"),
        api_version=params.get("api_version"),
    )
    return {**one, "secret": one["_secrets"][0]}


def made(
    call: Call,
    url: str,
    *,
    secrets: list[str] | None = None,
    types: list[str] | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    api_version: str | None = None,
) -> Json:
    return call.store.put(
        "webhook_endpoint",
        {
            "id": call.store.new_id("we_1"),
            "object": "webhook_endpoint",
            "api_version": api_version,
            "application": None,
            "created": call.now,
            "description": description,
            "enabled_events": types or ["*"],
            "livemode": call.livemode,
            "metadata": forms.merge_metadata({}, metadata),
            "status": "enabled",
            "url": url,
            "_secrets": secrets or [call.store.new_id("whsec_", 32)],
        },
    )


def plant(call: Call, endpoints: Sequence[Endpoint]) -> None:
    """The endpoints of this start. One of an earlier start whose address is not named any more takes a new address.

    It keeps what is still to be delivered. Where no new address is left, it is removed: a payment would wait for it.
    """
    kept = call.store.all("webhook_endpoint")
    named, known = {each.url for each in endpoints}, {one["url"] for one in kept}
    left = [one["id"] for one in kept if one.get("_planted") and one["url"] not in named]
    for each in endpoints:
        if left and each.url not in known:
            call.store.change("webhook_endpoint", left.pop(), url=each.url)
        secrets = [secret.strip() for secret in each.secret.split(",") if secret.strip()]
        one = configured(call, each.url, secrets, list(each.types) or None)
        call.store.change("webhook_endpoint", one["id"], _planted=True, api_version=API_VERSION)
    for id in left:
        call.store.remove("webhook_endpoint", id)


def configured(
    call: Call, url: str, secrets: list[str], types: list[str] | None = None, *, thinly: bool = False
) -> Json:
    """The endpoint with this address, made or brought up to date: what a restart with the same settings needs.

    `thinly`: the one that is sent thin notifications; an address may have one of each.
    """
    for one in call.store.all("webhook_endpoint"):
        if one["url"] == url and one.get("_thin", False) == thinly:
            return call.store.change(
                "webhook_endpoint", one["id"], _secrets=secrets, enabled_events=types or ["*"], status="enabled"
            )
    one = made(call, url, secrets=secrets, types=types)
    return call.store.change("webhook_endpoint", one["id"], _thin=True) if thinly else one


def update(call: Call, params: Json) -> Json:
    one = call.named("webhook_endpoint", params["id"])
    fields: dict[str, Any] = {name: params[name] for name in ("url", "description") if name in params}
    if params.get("enabled_events"):
        fields["enabled_events"] = params["enabled_events"]
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(one["metadata"], params["metadata"])
    if "disabled" in params:
        fields["status"] = "disabled" if params["disabled"] else "enabled"
    return call.store.change("webhook_endpoint", one["id"], **fields)


def delete(call: Call, params: Json) -> Json:
    one = call.named("webhook_endpoint", params["id"])
    call.store.remove("webhook_endpoint", one["id"])
    return {"id": one["id"], "object": "webhook_endpoint", "deleted": True}


def listening(store: Store, event: Json) -> list[Json]:
    return [
        one
        for one in store.all("webhook_endpoint")
        if one["status"] == "enabled"
        and one["livemode"] == event["livemode"]
        and (one.get("_thin") or not thin.is_thin(event))
        and any(matches(_type(one, event), pattern) for pattern in one["enabled_events"])
    ]


def _type(endpoint: Json, event: Json) -> str:
    """The event's type as this endpoint asks for it."""
    return str(thin.shown(event)["type"] if endpoint.get("_thin") else event["type"])


_TYPES = forms.items(forms.identifier, 500)
_SHARED: forms.Table = {
    "description": forms.text(),
    "enabled_events": _TYPES,
    "metadata": forms.metadata,
    "url": _ADDRESS,
}

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/webhook_endpoints",
        {**_SHARED, "api_version": forms.one_of(API_VERSION)},
        create,
    ),
    (
        "GET",
        "/v1/webhook_endpoints",
        PAGING,
        lambda call, params: page(call, "webhook_endpoint", params, "/v1/webhook_endpoints"),
    ),
    ("GET", "/v1/webhook_endpoints/{id}", {}, lambda call, params: call.named("webhook_endpoint", params["id"])),
    ("POST", "/v1/webhook_endpoints/{id}", {**_SHARED, "disabled": forms.boolean}, update),
    ("DELETE", "/v1/webhook_endpoints/{id}", {}, delete),
]
