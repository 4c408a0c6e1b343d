"""SQL of a user: the one Stripe customer, written with its own key before it is created, and a lane for each product.

Numbering updates the lane's row, so requests that arrive at the same moment wait for each other and see each other.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from billing.customers.due_syncs import NOT_DUE
from billing.database import insert_new
from billing.errors import UserErased
from billing.models import customers, lanes, projections

IS_ERASED = customers.c.erased_at.is_not(None)  # the user of this row
# Built once: every sync asks.
_OWNER = sa.select(
    customers.c.user_id, customers.c.erased_at, customers.c.sync_due_at, customers.c.sync_asked_at
).where(customers.c.customer_id == sa.bindparam("customer"))


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A user and their Stripe customer, or the request that will create it."""

    user_id: str
    customer_id: str | None
    idempotency_key: str
    parameters: dict[str, Any]
    requested_at: datetime | None
    erased_at: datetime | None

    @property
    def is_erased(self) -> bool:
        return self.erased_at is not None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a Stripe customer is.

    `sync_due`: it was taken over and not fetched since. `sync_asked`: a person wants it fetched again.
    """

    user_id: str
    is_erased: bool
    sync_due: bool
    sync_asked: bool = False


def open_customer(connection: sa.Connection, *, user_id: str, email: str | None, now: datetime) -> None:
    """Insert the user's row if there is none, with the key and parameters for creating its Stripe customer."""
    key = str(uuid.uuid4())
    parameters: dict[str, Any] = {"metadata": {"user_id": user_id, "nonce": key}}
    if email:
        parameters["email"] = email
    values = {"user_id": user_id, "idempotency_key": key, "parameters": parameters, "created_at": now}
    insert_new(connection, customers, values)


def read_customer(connection: sa.Connection, user_id: str) -> CustomerRow | None:
    """The user's row; None where there is none."""
    columns = [customers.c[name] for name in CustomerRow.__slots__]
    row = connection.execute(sa.select(*columns).where(customers.c.user_id == user_id)).first()
    return None if row is None else CustomerRow(**row._mapping)


def find_owner(connection: sa.Connection, customer_id: str) -> Owner | None:
    """Whose a Stripe customer is, by our own table, never by metadata; None where nobody owns it."""
    row = connection.execute(_OWNER, {"customer": customer_id}).first()
    if row is None:
        return None
    due, asked = row.sync_due_at is not None, row.sync_asked_at is not None
    return Owner(row.user_id, row.erased_at is not None, sync_due=due and not asked, sync_asked=due and asked)


def has_erased(customer_id: str | sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether the user whose Stripe customer this is was erased, in SQL."""
    return sa.exists().where(customers.c.customer_id == customer_id, IS_ERASED)


def customers_named(text: str) -> sa.Select[Any]:
    """The Stripe customers that an operator means by an id: that customer, or that user's. For `IN`."""
    return (
        sa.union(
            sa.select(sa.literal(text, type_=customers.c.customer_id.type)),
            sa.select(customers.c.customer_id).where(customers.c.user_id == text, customers.c.customer_id.is_not(None)),
        )
        .subquery()
        .select()
    )


def users_named(text: str) -> sa.Select[Any]:
    """The users that an operator means by an id: that user, or the one who has that Stripe customer. For `IN`."""
    return (
        sa.union(
            sa.select(sa.literal(text, type_=customers.c.user_id.type)),
            sa.select(customers.c.user_id).where(customers.c.customer_id == text),
        )
        .subquery()
        .select()
    )


def note_request(connection: sa.Connection, user_id: str, *, now: datetime) -> None:
    """Note, before the first POST, that one may be sent; not where the user has a customer already."""
    first = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.requested_at.is_(None), customers.c.customer_id.is_(None)
    )
    connection.execute(first.values(requested_at=now))


def set_customer(connection: sa.Connection, row: CustomerRow, customer_id: str) -> bool:
    """Set the created customer on its user by compare-and-set; False when the row has changed."""
    same = sa.update(customers).where(
        customers.c.user_id == row.user_id,
        customers.c.customer_id.is_(None),
        customers.c.idempotency_key == row.idempotency_key,
    )
    return connection.execute(same.values(customer_id=customer_id)).rowcount == 1


def renew_key(connection: sa.Connection, row: CustomerRow, *, leave_out: str = "") -> None:
    """Replace a key that can create nothing any more; no request was sent with the new one."""
    same = sa.update(customers).where(
        customers.c.user_id == row.user_id,
        customers.c.customer_id.is_(None),
        customers.c.idempotency_key == row.idempotency_key,
    )
    connection.execute(same.values(_new_key(row, leave_out=leave_out)))


def release(connection: sa.Connection, user_id: str, customer_id: str) -> bool:
    """Remove a customer from its user, with a new key for the next one; False when it is not theirs any more.

    An erased user keeps it: by this row a late event is known to be about an erased user.
    """
    row = read_customer(connection, user_id)
    if row is None:
        return False
    theirs = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.customer_id == customer_id, sa.not_(IS_ERASED)
    )
    return connection.execute(theirs.values(customer_id=None, **NOT_DUE, **_new_key(row))).rowcount == 1


def release_missing(connection: sa.Connection, user_id: str) -> None:
    """Remove a customer that Stripe does not have, by the last sync, which told the application of its end."""
    theirs = sa.select(customers.c.customer_id).join(projections, projections.c.customer_id == customers.c.customer_id)
    missing = connection.scalar(theirs.where(customers.c.user_id == user_id, projections.c.deleted))
    if missing is not None:
        release(connection, user_id, missing)


def _new_key(row: CustomerRow, *, leave_out: str = "") -> dict[str, Any]:
    key = str(uuid.uuid4())
    parameters = {name: value for name, value in row.parameters.items() if name != leave_out}
    parameters["metadata"] = {**parameters["metadata"], "nonce": key}
    return {"idempotency_key": key, "parameters": parameters, "requested_at": None}


def claim(connection: sa.Connection, *, user_id: str, customer_id: str, now: datetime) -> bool:
    """Give an existing Stripe customer to a user who has none and for whom none was requested; it is fetched next."""
    free = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.customer_id.is_(None), customers.c.requested_at.is_(None)
    )
    values = {"customer_id": customer_id, **NOT_DUE, "sync_due_at": now, "sync_failures": 0}
    try:
        with connection.begin_nested():
            return connection.execute(free.values(values)).rowcount == 1
    except IntegrityError:  # unique: the customer is another user's
        return False


# --- the lane, and the requests in it

_FIND = sa.select(lanes.c.id).where(
    lanes.c.user_id == sa.bindparam("user_id"), lanes.c.product == sa.bindparam("product")
)
_FIND_BY_CUSTOMER = (
    sa.select(lanes.c.id)
    .join(customers, customers.c.user_id == lanes.c.user_id)
    .where(customers.c.customer_id == sa.bindparam("customer_id"), lanes.c.product == sa.bindparam("product"))
)
_NEXT_NUMBER = (
    sa.update(lanes)
    .where(lanes.c.id == sa.bindparam("lane_id"), lanes.c.erased.is_(False))
    .values(last_number=lanes.c.last_number + 1)
    .returning(lanes.c.last_number)
)


def find_lane(connection: sa.Connection, *, user_id: str, product: str) -> int | None:
    """The id of the user's lane, when it is there."""
    return connection.scalar(_FIND, {"user_id": user_id, "product": product})


def find_lane_of_customer(connection: sa.Connection, *, customer_id: str, product: str) -> int | None:
    """The id of the lane whose user has this Stripe customer."""
    return connection.scalar(_FIND_BY_CUSTOMER, {"customer_id": customer_id, "product": product})


def open_lane(connection: sa.Connection, *, user_id: str, product: str) -> int:
    """The id of the user's lane, made when it is not there yet."""
    insert_new(connection, lanes, {"user_id": user_id, "product": product})
    lane_id = find_lane(connection, user_id=user_id, product=product)
    assert lane_id is not None, "it was just made, or was there"
    return lane_id


def next_number(connection: sa.Connection, lane_id: int) -> int:
    """Number an arriving request. The version stays: an arrival must not void a worker's compare-and-set.

    Raises UserErased: an erasure changes this row too, so that each of the two sees the other.
    """
    number = connection.execute(_NEXT_NUMBER, {"lane_id": lane_id}).scalar_one_or_none()
    if number is None:
        raise UserErased
    return int(number)
