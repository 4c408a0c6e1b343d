"""The webhook endpoint at Stripe: made or brought up to date, so that it sends exactly the types that we follow.

Running it again changes nothing. Stripe tells the signing secret once, in the answer that creates the endpoint. So a
creation whose answer was lost is sent again with its key; it is not looked for.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from billing.errors import StripeUnclear
from billing.webhooks.event_types import FOLLOWED

Json = dict[str, Any]

PATH = "/webhooks/stripe"  # of our address
DESCRIPTION = "onelane"
TRIES = 3


class Endpoints(Protocol):
    """What this asks of Stripe."""

    def list_webhook_endpoints(self) -> list[Json]:
        """Every endpoint of the account."""

    def create_webhook_endpoint(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        """The endpoint, with its secret."""

    def update_webhook_endpoint(self, endpoint_id: str, parameters: Mapping[str, Any]) -> Json:
        """The endpoint, without its secret."""


class Action(StrEnum):
    """What had to be done."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Setup:
    """What was done (or would be), and what is left for a person."""

    action: Action
    endpoint_id: str | None  # None: it would be created
    added: Sequence[str] = ()  # types
    removed: Sequence[str] = ()
    enabled: bool = False  # it was switched off
    other_version: str | None = None  # it sends in another API version, which no update changes
    left_over: Sequence[str] = ()  # other endpoints of the same address
    secret: str | None = field(default=None, repr=False)


def set_up_endpoint(url: str, *, stripe: Endpoints, api_version: str, dry_run: bool, replace: bool = False) -> Setup:
    """Make or update the endpoint of this address. `replace`: make a new one where the version is not ours.

    Raises what the gateway raises.
    """
    there = [one for one in stripe.list_webhook_endpoints() if one.get("url") == url]
    ours = [one for one in there if one.get("api_version") == api_version]
    found = next(iter(ours or ([] if replace else there)), None)
    others = [str(one["id"]) for one in there if one is not found]
    if found is None:
        wanted = {
            "url": url,
            "enabled_events": sorted(FOLLOWED),
            "api_version": api_version,
            "description": DESCRIPTION,
        }
        made = {} if dry_run else _created(lambda key: stripe.create_webhook_endpoint(wanted, idempotency_key=key))
        return Setup(
            Action.CREATED, made.get("id"), added=sorted(FOLLOWED), left_over=others, secret=made.get("secret")
        )
    now = set(found.get("enabled_events") or ())
    added, removed = sorted(set(FOLLOWED) - now), sorted(now - set(FOLLOWED))
    off = found.get("status") != "enabled"
    if (added or removed or off) and not dry_run:
        stripe.update_webhook_endpoint(found["id"], {"enabled_events": sorted(FOLLOWED), "disabled": False})
    return Setup(
        Action.UPDATED if added or removed or off else Action.UNCHANGED,
        str(found["id"]),
        added=added,
        removed=removed,
        enabled=off,
        other_version=None if found in ours else str(found.get("api_version") or "the account's default"),
        left_over=others,
    )


def _created(create: Callable[[str], Json]) -> Json:
    """Send the same creation until its answer arrives: the secret is in no other one."""
    key = str(uuid.uuid4())
    for _ in range(TRIES - 1):
        try:
            return create(key)
        except StripeUnclear:
            continue
    return create(key)
