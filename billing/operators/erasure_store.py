"""SQL of erasing: counts and removes what is personal about one user.

Personal are emails, payloads, request bodies, pages' addresses, references, metadata and messages. Ids, states, plans
and times stay. `FORGOTTEN` replaces a fingerprint, which was made from removed data.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.models import (
    CheckoutStatus,
    OperationStatus,
    attempts,
    checkouts,
    customers,
    events,
    lanes,
    operations,
    outbox,
    product_trials,
)

FORGOTTEN = "forgotten"
ERASED = "erased"  # the status of a message that was never sent
_REFUSED = {"code": "user_erased", "detail": "This user was erased."}


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many rows of each kind hold, or held, something personal."""

    emails: int = 0
    payloads: int = 0
    checkouts: int = 0
    attempts: int = 0
    operations: int = 0
    messages: int = 0

    @property
    def rows(self) -> int:
        return sum(self.as_dict().values())

    def as_dict(self) -> dict[str, int]:
        return dataclasses.asdict(self)

    def __add__(self, other: "Holdings") -> "Holdings":
        return Holdings(**{name: number + getattr(other, name) for name, number in self.as_dict().items()})


# --- before


def customers_of(connection: sa.Connection, user_id: str) -> list[str]:
    """The user's Stripe customer, and former ones that Stripe had deleted, as far as a session was made for them."""
    now = connection.scalar(sa.select(customers.c.customer_id).where(customers.c.user_id == user_id))
    former = sa.select(attempts.c.parameters["customer"].as_string()).distinct()
    former = former.join(lanes, lanes.c.id == attempts.c.lane_id).where(lanes.c.user_id == user_id)
    return sorted({id_ for id_ in [now, *connection.scalars(former)] if id_})


def has_trial(connection: sa.Connection, user_id: str) -> bool:
    """Whether a product trial was begun for the user, of whichever product."""
    return bool(connection.scalar(sa.select(sa.exists().where(product_trials.c.user_id == user_id))))


def count(connection: sa.Connection, user_id: str, customer_ids: Sequence[str]) -> Holdings:
    found = {
        name: int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0)
        for name, (table, where) in _personal(user_id, customer_ids).items()
    }
    row = connection.execute(sa.select(customers.c.parameters).where(customers.c.user_id == user_id)).first()
    return Holdings(emails=int(row is not None and row.parameters.get("email") is not None), **found)


def mark(connection: sa.Connection, user_id: str, lane_id: int, *, reason: str, now: datetime) -> list[str]:
    """Mark the user as erased and close their lanes; the ids of the pending checkouts and operations it refuses.

    The lane first: a request that was numbered before is refused below, and a later one finds the lane closed. The
    version rises, so that a worker with an older row loses its next compare-and-set.
    """
    shut = sa.update(lanes).where(lanes.c.user_id == user_id)
    connection.execute(shut.values(erased=True, version=lanes.c.version + 1))
    own = sa.update(customers).where(customers.c.user_id == user_id)
    first = sa.func.coalesce(customers.c.erased_at, sa.literal(now, customers.c.erased_at.type))
    connection.execute(own.values(erased_at=first, erasure_reason=reason))
    waiting = sa.update(checkouts).where(checkouts.c.lane_id == lane_id, checkouts.c.status == CheckoutStatus.PENDING)
    refused = waiting.values(status=CheckoutStatus.REFUSED, error=_REFUSED, answered_at=now)
    pending = sa.update(operations).where(
        operations.c.lane_id == lane_id, operations.c.status == OperationStatus.PENDING
    )
    ended = pending.values(
        status=OperationStatus.REFUSED,
        version=operations.c.version + 1,
        error=_REFUSED,
        finished_at=now,
        call=sa.null(),
        failure=sa.null(),
    )
    turned_away = list(connection.scalars(refused.returning(checkouts.c.id)))
    return turned_away + list(connection.scalars(ended.returning(operations.c.id)))


def unmark(connection: sa.Connection, user_id: str) -> bool:
    """Remove the mark of a user who paid in the last moment; whether they are as before.

    A user of whom anything was removed stays erased.
    """
    own = (customers.c.user_id == user_id, customers.c.erasure_finished_at.is_(None))
    row = connection.execute(sa.select(customers.c.parameters).where(*own).with_for_update(key_share=True)).first()
    if row is None or _has_begun(row.parameters):
        return False
    connection.execute(sa.update(customers).where(*own).values(erased_at=None, erasure_reason=None))
    connection.execute(sa.update(lanes).where(lanes.c.user_id == user_id).values(erased=False))
    return True


# --- the removal


def forget_some(connection: sa.Connection, user_id: str, customer_ids: Sequence[str], *, limit: int) -> Holdings:
    """Remove a batch from the first table that still has personal data; the counts, all 0 at the end."""
    own = sa.select(customers.c.parameters).where(customers.c.user_id == user_id)
    parameters: dict[str, Any] = connection.execute(own).scalar_one()
    if not _has_begun(parameters):
        changed = sa.update(customers).where(customers.c.user_id == user_id)
        connection.execute(changed.values(parameters={**parameters, "email": None}))
        if "email" in parameters:
            return Holdings(emails=1)
    for name, (table, where) in _personal(user_id, customer_ids).items():
        (key,) = table.primary_key
        # In one order and locked: workers change several of these rows in a transaction, too.
        some = list(connection.scalars(sa.select(key).where(where).order_by(key).limit(limit).with_for_update()))
        if some:
            connection.execute(sa.update(table).where(key.in_(some)).values(_nothing_of(table)))
            return Holdings(**{name: len(some)})
    return Holdings()


def finish(connection: sa.Connection, user_id: str, *, now: datetime) -> None:
    own = sa.update(customers).where(customers.c.user_id == user_id, customers.c.erasure_finished_at.is_(None))
    connection.execute(own.values(erasure_finished_at=now))


def _has_begun(parameters: Mapping[str, Any]) -> bool:
    """Whether a batch was removed: the first one sets the email to None, also where there was none."""
    return parameters.get("email", "") is None


def _personal(user_id: str, customer_ids: Sequence[str]) -> dict[str, tuple[sa.Table, sa.ColumnElement[bool]]]:
    """By kind, the table and the rows that still have personal data."""
    theirs = sa.select(lanes.c.id).where(lanes.c.user_id == user_id)
    told = outbox.c.payload != sa.literal({}, outbox.c.payload.type)
    return {
        "checkouts": (checkouts, sa.and_(checkouts.c.lane_id.in_(theirs), checkouts.c.fingerprint != FORGOTTEN)),
        "operations": (operations, sa.and_(operations.c.lane_id.in_(theirs), operations.c.body_hash != FORGOTTEN)),
        "messages": (outbox, sa.and_(outbox.c.customer_id.in_(customer_ids), told)),
        "payloads": (events, sa.and_(events.c.customer_id.in_(customer_ids), events.c.payload.is_not(None))),
        # Last: an interrupted run finds the user's former customers by them.
        "attempts": (attempts, sa.and_(attempts.c.lane_id.in_(theirs), attempts.c.fingerprint != FORGOTTEN)),
    }


def _nothing_of(table: sa.Table) -> dict[str, Any]:
    """The values that replace the personal data of a table."""
    hashes = {"fingerprint": FORGOTTEN, "body_hash": FORGOTTEN}
    unsent = sa.case((outbox.c.status == "pending", ERASED), else_=outbox.c.status)
    gone: dict[str, dict[str, Any]] = {
        "checkouts": {**hashes, "request": {}, "idempotency_key": None},
        "operations": {
            "body_hash": FORGOTTEN,
            "request": {},
            "call": sa.null(),
            "failure": sa.null(),
            "url": None,
            "idempotency_key": None,
        },
        "outbox": {"payload": {}, "status": unsent, "error": None, "history": None},
        "events": {"payload": None},
        "attempts": {"fingerprint": FORGOTTEN, "parameters": {}, "url": None},
    }
    return gone[table.name]
