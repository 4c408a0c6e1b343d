"""The ledger of customers: one Stripe customer per user, written ahead with its own key."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from billing.database import insert_new
from billing.models import customers


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A user and the Stripe customer that is, or is about to be, theirs."""

    user_id: str
    customer_id: str | None
    idempotency_key: str
    parameters: dict[str, Any]
    requested_at: datetime | None
    erased_at: datetime | None


def open_customer(connection: sa.Connection, *, user_id: str, email: str | None, now: datetime) -> None:
    """Make the user's row, with the key and the parameters that its Stripe customer will be created with."""
    key = str(uuid.uuid4())
    parameters: dict[str, Any] = {"metadata": {"user_id": user_id, "nonce": key}}
    if email:
        parameters["email"] = email
    values = {"user_id": user_id, "idempotency_key": key, "parameters": parameters, "created_at": now}
    insert_new(connection, customers, values)


def read_customer(connection: sa.Connection, user_id: str) -> CustomerRow | None:
    """The user's row."""
    columns = [customers.c[name] for name in CustomerRow.__slots__]
    row = connection.execute(sa.select(*columns).where(customers.c.user_id == user_id)).first()
    return None if row is None else CustomerRow(**row._mapping)


def find_user(connection: sa.Connection, customer_id: str) -> str | None:
    """Whose Stripe customer this is, by our own table only, never by metadata."""
    return connection.scalar(sa.select(customers.c.user_id).where(customers.c.customer_id == customer_id))


def is_erased(connection: sa.Connection, customer_id: str) -> bool:
    """Whether the user whose Stripe customer this is was erased."""
    gone = sa.exists().where(customers.c.customer_id == customer_id, customers.c.erased_at.is_not(None))
    return bool(connection.scalar(sa.select(gone)))


def requested(connection: sa.Connection, user_id: str, *, now: datetime) -> None:
    """Note, before the first POST, that one may have gone out; not where the user has a customer by now."""
    first = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.requested_at.is_(None), customers.c.customer_id.is_(None)
    )
    connection.execute(first.values(requested_at=now))


def give(connection: sa.Connection, row: CustomerRow, customer_id: str) -> bool:
    """Compare-and-set the created customer onto its user; False when the row moved on meanwhile."""
    mine = sa.update(customers).where(
        customers.c.user_id == row.user_id,
        customers.c.customer_id.is_(None),
        customers.c.idempotency_key == row.idempotency_key,
    )
    return connection.execute(mine.values(customer_id=customer_id)).rowcount == 1


def renew_key(connection: sa.Connection, row: CustomerRow, *, leave_out: str = "") -> None:
    """Replace a key that can create nothing any more; nobody has requested with the new one."""
    mine = sa.update(customers).where(
        customers.c.user_id == row.user_id,
        customers.c.customer_id.is_(None),
        customers.c.idempotency_key == row.idempotency_key,
    )
    connection.execute(mine.values(_new_key(row, leave_out=leave_out)))


def release(connection: sa.Connection, user_id: str, customer_id: str) -> bool:
    """Take a customer from its user, with a new key for the next one; False when it is not theirs any more.

    An erased user keeps it: by this row a late event is known to be about somebody erased.
    """
    row = read_customer(connection, user_id)
    if row is None:
        return False
    theirs = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.customer_id == customer_id, customers.c.erased_at.is_(None)
    )
    return connection.execute(theirs.values(customer_id=None, **_new_key(row))).rowcount == 1


def _new_key(row: CustomerRow, *, leave_out: str = "") -> dict[str, Any]:
    key = str(uuid.uuid4())
    parameters = {name: value for name, value in row.parameters.items() if name != leave_out}
    parameters["metadata"] = {**parameters["metadata"], "nonce": key}
    return {"idempotency_key": key, "parameters": parameters, "requested_at": None}


def claim(connection: sa.Connection, *, user_id: str, customer_id: str) -> bool:
    """Give an existing Stripe customer to a user who has none and for whom none was requested."""
    free = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.customer_id.is_(None), customers.c.requested_at.is_(None)
    )
    try:
        with connection.begin_nested():
            return connection.execute(free.values(customer_id=customer_id)).rowcount == 1
    except IntegrityError:  # unique: the customer is another user's
        return False
