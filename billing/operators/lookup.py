"""The lists and single rows that an operator looks up on the command line.

Reads only, newest first, as plain dicts. No column here is a secret: addresses of payment pages are left out, and an
event's payload, which is personal, is shown only on request.
"""

import json
from typing import Any

import sqlalchemy as sa

from billing.checkout.checkout_store import read_newest, read_view
from billing.clock import Clock
from billing.customers.store import find_owner, read_customer
from billing.database import Database
from billing.errors import NotFound
from billing.models import CheckoutStatus, checkouts, events, incidents, remedies, replayed_events, replays

Row = dict[str, Any]

_EVENT = [events.c[name] for name in ("event_id", "type", "status", "attempts", "customer_id", "received_at", "error")]
_CHECKOUT = [checkouts.c[name] for name in ("id", "user_id", "plan", "status", "arrived_at", "answered_at")]
_CHECKOUT_DETAIL = [*_CHECKOUT, *(checkouts.c[name] for name in ("number", "nonce", "reused", "error"))]
_INCIDENT = [
    incidents.c[name]
    for name in ("id", "kind", "customer_id", "product", "detail", "opened_at", "resolved_at", "reason")
]
_REPLAY = [column for column in replays.c if column.name != "alive_until"]


def list_events(*, database: Database, status: str | None = None, type_: str | None = None, limit: int) -> list[Row]:
    """The newest events; only those of a status or a type where one is given."""
    query = sa.select(*_EVENT).order_by(events.c.id.desc()).limit(limit)
    if status:
        query = query.where(events.c.status == status)
    if type_:
        query = query.where(events.c.type == type_)
    return _rows(query, database)


def show_event(event_id: str, *, database: Database, payload: bool = False) -> Row:
    """One event by Stripe's id, with the replays that set it back; with its payload on request. Raises NotFound."""
    found = _rows(
        sa.select(events).where(events.c.event_id == event_id).order_by(events.c.id.desc()).limit(1), database
    )
    if not found:
        raise NotFound("event")
    row = {name: value for name, value in found[0].items() if name not in ("payload", "claim")}
    columns = [replayed_events.c[name] for name in ("replay_id", "replayed_at", "was_status", "was_error")]
    history = sa.select(*columns, replays.c.reason).join(replays, replays.c.id == replayed_events.c.replay_id)
    history = history.where(replayed_events.c.event_row_id == row["id"]).order_by(replayed_events.c.replay_id)
    row["replays"] = _rows(history, database)
    if payload:
        kept = found[0]["payload"]
        row["payload"] = None if kept is None else _json_or_text(bytes(kept))
    return row


def list_replays(*, database: Database, limit: int) -> list[Row]:
    """The newest replays: reason, filter, state and counts."""
    return _rows(sa.select(*_REPLAY).order_by(replays.c.id.desc()).limit(limit), database)


def list_checkouts(
    *, database: Database, clock: Clock, status: str | None = None, user_id: str | None = None, limit: int
) -> list[Row]:
    """The newest checkouts, each as its buyer sees it; only those of a status or a user where one is given."""
    wanted = CheckoutStatus(status) if status else None
    with database.read() as connection:
        return read_newest(connection, status=wanted, user_id=user_id, now=clock.now(), limit=limit)


def show_checkout(checkout_id: str, *, database: Database, clock: Clock) -> Row:
    """One checkout as its buyer sees it, never its url. Raises NotFound."""
    found = _rows(sa.select(*_CHECKOUT_DETAIL).where(checkouts.c.id == checkout_id), database)
    with database.read() as connection:
        view = read_view(connection, checkout_id, now=clock.now())
    if not found or view is None:
        raise NotFound("checkout")
    return {**found[0], "status": view.status.value}


def list_incidents(*, database: Database, everything: bool = False, limit: int) -> list[Row]:
    """The newest open incidents, or with `everything` the resolved ones too, each with its remedies."""
    query = sa.select(*_INCIDENT).order_by(incidents.c.id.desc()).limit(limit)
    if not everything:
        query = query.where(incidents.c.resolved_at.is_(None))
    rows = _rows(query, database)
    columns = [remedies.c[name] for name in ("incident_id", "subscription_id", "kept_id", "state", "error")]
    theirs = remedies.c.incident_id.in_([row["id"] for row in rows])
    by_incident: dict[int, list[Row]] = {row["id"]: [] for row in rows}
    for remedy in _rows(sa.select(*columns).where(theirs).order_by(remedies.c.id), database):
        by_incident[remedy.pop("incident_id")].append(remedy)
    for row in rows:
        row["remedies"] = by_incident[row["id"]]
    return rows


def customer_problem(user_id: str, customer_id: str, *, database: Database) -> str | None:
    """Why an import would refuse this pair, for its dry run; None where it would not."""
    with database.read() as connection:
        customer = read_customer(connection, user_id)
        owner = find_owner(connection, customer_id)
    if customer is not None and customer.is_erased:
        return "this user was erased"
    if customer is not None and customer.customer_id not in (None, customer_id):
        return "this user already has another Stripe customer"
    if owner and owner.user_id != user_id:
        return "this Stripe customer already belongs to another user"
    return None


def _rows(query: sa.Select[Any], database: Database) -> list[Row]:
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
