"""A user's lane of a product: found, made, and the requests in it numbered.

Numbering updates the lane's row, so requests that arrive at the same moment wait for each other and see each other.
"""

import sqlalchemy as sa

from billing.database import insert_new
from billing.errors import UserErased
from billing.models import customers, lanes

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
