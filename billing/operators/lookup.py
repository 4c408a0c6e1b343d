"""The lists and single rows that an operator looks up on the command line.

Reads only, newest first, as plain dicts. No column here is a secret: addresses of payment pages are left out, and an
event's payload, which is personal, is shown only on request.
"""

import sqlalchemy as sa

from billing.checkout.view import read_newest, read_view
from billing.clock import Clock
from billing.customers.store import find_owner, read_customer
from billing.database import Database
from billing.errors import NotFound
from billing.models import CheckoutStatus, checkouts, incidents, operations, remedies
from billing.operators.listing import Row, Wanted, first_of, rows_of

_CHECKOUT = [checkouts.c[name] for name in ("id", "user_id", "plan", "status", "arrived_at", "answered_at")]
_CHECKOUT_DETAIL = [*_CHECKOUT, *(checkouts.c[name] for name in ("number", "nonce", "reused", "error"))]
_ASKED = ("id", "status", "arrived_at", "kind", "user_id", "subscription_id", "finished_at", "last_error", "error")
_OPERATION = [operations.c[name] for name in _ASKED]
_INCIDENT = [
    incidents.c[name]
    for name in ("id", "kind", "opened_at", "resolved_at", "customer_id", "reason", "detail", "product")
]


def list_checkouts(wanted: Wanted, *, database: Database, clock: Clock, status: str | None = None) -> list[Row]:
    """The newest checkouts, each as its buyer sees it; of a status, by their arrival."""
    shown = CheckoutStatus(status) if status else None
    where = wanted.where(at=checkouts.c.arrived_at, user_id=checkouts.c.user_id)
    with database.read() as connection:
        return read_newest(connection, status=shown, where=where, now=clock.now(), limit=wanted.limit)


def list_operations(wanted: Wanted, *, database: Database, status: str | None = None) -> list[Row]:
    """The newest changes that buyers asked for; of a status, by their arrival."""
    where = wanted.where(at=operations.c.arrived_at, user_id=operations.c.user_id)
    where += [operations.c.status == status] if status else []
    newest = sa.select(*_OPERATION).order_by(operations.c.arrived_at.desc(), operations.c.number.desc())
    with database.read() as connection:
        return rows_of(connection, newest.where(*where).limit(wanted.limit))


def show_checkout(checkout_id: str, *, database: Database, clock: Clock) -> Row:
    """One checkout as its buyer sees it, never its url. Raises NotFound."""
    with database.read() as connection:
        found = first_of(connection, sa.select(*_CHECKOUT_DETAIL).where(checkouts.c.id == checkout_id))
        view = read_view(connection, checkout_id, now=clock.now())
    if found is None or view is None:
        raise NotFound("checkout")
    return {**found, "status": view.status.value}


def list_incidents(wanted: Wanted, *, database: Database, everything: bool = False) -> list[Row]:
    """The newest open incidents, or with `everything` the resolved ones too, each with its remedies."""
    where = wanted.where(at=incidents.c.opened_at, customer_id=incidents.c.customer_id)
    where += [] if everything else [incidents.c.resolved_at.is_(None)]
    newest = sa.select(*_INCIDENT).where(*where).order_by(incidents.c.id.desc()).limit(wanted.limit)
    columns = [remedies.c[name] for name in ("incident_id", "subscription_id", "kept_id", "state", "error")]
    with database.read() as connection:
        rows = rows_of(connection, newest)
        theirs = remedies.c.incident_id.in_([row["id"] for row in rows])
        found = rows_of(connection, sa.select(*columns).where(theirs).order_by(remedies.c.id))
    by_incident: dict[int, list[Row]] = {row["id"]: row.setdefault("remedies", []) for row in rows}
    for remedy in found:
        by_incident[remedy.pop("incident_id")].append(remedy)
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
