"""Stripe's objects and deliveries as tests need them: small, valid, and every field can be said otherwise."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from billing.catalog import load_catalog
from billing.webhooks.signature import sign

SECRET = "whsec_test_secret"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CATALOG = load_catalog(Path(__file__).parents[2] / "catalog.toml")
_numbers = count(1)


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, time: datetime = NOON) -> None:
        self.time = time

    def now(self) -> datetime:
        """The test's time."""
        return self.time

    def advance(self, **delta: float) -> None:
        """Let time pass: `clock.advance(seconds=30)`."""
        self.time += timedelta(**delta)


def build_subscription(id: str = "sub_1", *, customer: str = "cus_1", **instead: Any) -> dict[str, Any]:
    """A subscription to the standard plan, active, with our tag; `price` and `items` change what it is to."""
    item: dict[str, Any] = {
        "id": f"si_{id}",
        "price": {"id": instead.pop("price", "price_kiloclaw_standard")},
        "quantity": 1,
        "current_period_start": stamp(NOON),
        "current_period_end": stamp(NOON + timedelta(days=30)),
    }
    item |= instead.pop("item", {})
    return {
        "id": id,
        "object": "subscription",
        "customer": customer,
        "status": "active",
        "metadata": {"type": "kiloclaw"},
        "items": {"object": "list", "data": [item], "has_more": False},
        "cancel_at_period_end": False,
        "cancel_at": None,
        "canceled_at": None,
        "ended_at": None,
        "trial_end": None,
        "schedule": None,
        "created": stamp(NOON),
        **instead,
    }


def build_event(
    type: str = "customer.subscription.updated", subject: Mapping[str, Any] | None = None, **instead: Any
) -> dict[str, Any]:
    """An event about `subject` (a subscription unless said otherwise), with an id of its own."""
    return {
        "id": f"evt_{next(_numbers)}",
        "object": "event",
        "type": type,
        "created": stamp(NOON),
        "livemode": False,
        "data": {"object": dict(build_subscription() if subject is None else subject)},
        **instead,
    }


def build_note(
    type: str = "v1.customer.subscription.updated", named: tuple[str, str] = ("sub_1", "subscription"), **instead: Any
) -> dict[str, Any]:
    """A thin notification; `named` is the id and the type of its object."""
    id_, kind = named
    related = {"id": id_, "type": kind, "url": f"/v1/anything/{id_}"}
    made = {"id": "evt_test_1", "object": "v2.core.event", "type": type, "created": "2026-06-01T12:00:00.000Z"}
    return {**made, "livemode": False, "context": None, "related_object": related, **instead}


def deliver(event: Any, *, secret: str = SECRET, at: datetime = NOON) -> tuple[bytes, str]:
    """The body and the Stripe-Signature header of a delivery; `event` may be the raw bytes of any body."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return body, sign(body, secret, now=at.timestamp())


def stamp(moment: datetime) -> int:
    """Stripe's way to write a time."""
    return int(moment.timestamp())


def data_of(raw: str) -> bytes:
    """A signed event's body with this text inside its data."""
    return json.dumps(build_event()).replace('"kiloclaw"', raw, 1).encode("utf-8", "surrogatepass")
