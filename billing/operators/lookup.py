"""The lists and single rows that an operator looks up on the command line.

Reads only, newest first, as plain dicts. No column here is a secret: addresses of payment pages are left out, and an
event's payload, which is personal, is shown only on request.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.checkout.view import read_newest, read_view
from billing.clock import Clock
from billing.customers.store import customers_named, find_owner, read_customer, users_named
from billing.database import Database
from billing.errors import NotFound
from billing.models import (
    CheckoutStatus,
    checkouts,
    incidents,
    operations,
    remedies,
)

Row = dict[str, Any]

_CHECKOUT = [checkouts.c[name] for name in ("id", "user_id", "plan", "status", "arrived_at", "answered_at")]
_CHECKOUT_DETAIL = [*_CHECKOUT, *(checkouts.c[name] for name in ("number", "nonce", "reused", "error"))]
_ASKED = ("id", "status", "arrived_at", "kind", "user_id", "subscription_id", "finished_at", "last_error", "error")
_OPERATION = [operations.c[name] for name in _ASKED]
_INCIDENT = [
    incidents.c[name]
    for name in ("id", "kind", "opened_at", "resolved_at", "customer_id", "reason", "detail", "product")
]


def list_checkouts(
    *,
    database: Database,
    clock: Clock,
    status: str | None = None,
    customer: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[Row]:
    """The newest checkouts, each as its buyer sees it; of a status, a user or customer, arrived since then."""
    wanted = CheckoutStatus(status) if status else None
    where = _of_user(checkouts, customer, since)
    with database.read() as connection:
        return read_newest(connection, status=wanted, where=where, now=clock.now(), limit=limit)


def list_operations(
    *,
    database: Database,
    status: str | None = None,
    customer: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[Row]:
    """The newest changes that buyers asked for; of a status, a user or customer, arrived since then."""
    query = sa.select(*_OPERATION).where(*_of_user(operations, customer, since))
    if status:
        query = query.where(operations.c.status == status)
    return _rows(query.order_by(operations.c.arrived_at.desc(), operations.c.number.desc()).limit(limit), database)


def show_checkout(checkout_id: str, *, database: Database, clock: Clock) -> Row:
    """One checkout as its buyer sees it, never its url. Raises NotFound."""
    found = _rows(sa.select(*_CHECKOUT_DETAIL).where(checkouts.c.id == checkout_id), database)
    with database.read() as connection:
        view = read_view(connection, checkout_id, now=clock.now())
    if not found or view is None:
        raise NotFound("checkout")
    return {**found[0], "status": view.status.value}


def list_incidents(
    *,
    database: Database,
    everything: bool = False,
    customer: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[Row]:
    """The newest open incidents, or with `everything` the resolved ones too, each with its remedies."""
    query = sa.select(*_INCIDENT).order_by(incidents.c.id.desc()).limit(limit)
    if not everything:
        query = query.where(incidents.c.resolved_at.is_(None))
    if customer:
        query = query.where(incidents.c.customer_id.in_(customers_named(customer)))
    if since:
        query = query.where(incidents.c.opened_at >= since)
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


def _of_user(table: sa.Table, customer: str | None, since: datetime | None) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [table.c.user_id.in_(users_named(customer))] if customer else []
    return [*where, table.c.arrived_at >= since] if since else where


def _rows(query: sa.Select[Any], database: Database) -> list[Row]:
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]
