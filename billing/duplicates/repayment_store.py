"""SQL of repayments: each refund and each credit, a row before it is a call.

A row is one thing to give back: a payment, or the credit in an invoice. Its key is renewed by compare-and-set, and only
after a look at Stripe that is later than everything that the old key could have done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.duplicates.judge import Kind
from billing.models import repayments

# 20 h: Stripe forgets a key after 24 h; a request with a forgotten one is carried out as if it were new.
KEY_LASTS = timedelta(hours=20)
# 60 s: Stripe's lists are behind for seconds at most; what they do not show by then was never done.
LISTS_LAG = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Repayment:
    """A row of `repayments`, as read."""

    id: int
    remedy_id: int
    kind: Kind
    source: str
    amount: int
    parameters: dict[str, Any]
    idempotency_key: str
    spent: bool
    stripe_id: str | None
    status: str | None
    first_sent_at: datetime | None
    last_sent_at: datetime | None

    def is_usable(self, parameters: dict[str, Any], *, now: datetime) -> bool:
        """Whether its key may be sent, or sent again, with these parameters."""
        fresh = self.first_sent_at is None or timedelta() <= now - self.first_sent_at < KEY_LASTS
        return self.parameters == parameters and not self.spent and fresh

    def may_be_renewed(self, *, looked_at: datetime) -> bool:
        """Whether a look at that time shows everything that the key has done."""
        return self.last_sent_at is None or looked_at - self.last_sent_at >= LISTS_LAG


_COLUMNS = [repayments.c[name] for name in Repayment.__slots__]


def read_all(connection: sa.Connection, remedy_id: int) -> Sequence[Repayment]:
    """The repayments of one remedy, oldest first."""
    found = sa.select(*_COLUMNS).where(repayments.c.remedy_id == remedy_id).order_by(repayments.c.id)
    return [Repayment(**dict(row._mapping) | {"kind": Kind(row.kind)}) for row in connection.execute(found)]


def insert(connection: sa.Connection, values: dict[str, Any]) -> Repayment:
    """Write one before it is sent; or the one that another worker wrote."""
    insert_new(connection, repayments, values)
    rows = read_all(connection, values["remedy_id"])
    [row] = [row for row in rows if (row.kind, row.source) == (values["kind"], values["source"])]
    return row


def renew(connection: sa.Connection, row: Repayment, *, key: str, parameters: dict[str, Any], amount: int) -> bool:
    """Another key, with what is to be sent under it; whether no other worker has changed the row since it was read."""
    values: dict[str, Any] = {"idempotency_key": key, "parameters": parameters, "amount": amount, "spent": False}
    unsent = repayments.c.last_sent_at.is_not_distinct_from(row.last_sent_at)  # since it was read
    return _change(connection, row, unsent, **values, first_sent_at=None)


def note_sending(connection: sa.Connection, row: Repayment, *, now: datetime) -> bool:
    """Note that its request goes out now; False when another worker has renewed the key since it was read."""
    return _change(connection, row, first_sent_at=row.first_sent_at or now, last_sent_at=now)


def note_spent(connection: sa.Connection, row: Repayment, *, error: str) -> None:
    """Note that its key can give nothing any more, or may have given it."""
    _change(connection, row, spent=True, error=error)


def note_answer(connection: sa.Connection, row: Repayment, *, stripe_id: str, status: str) -> None:
    """Note what Stripe made of it."""
    _change(connection, row, stripe_id=stripe_id, status=status, error=None)


def note_status(connection: sa.Connection, row_id: int, *, status: str) -> None:
    """Note what became of it, for operators."""
    connection.execute(sa.update(repayments).where(repayments.c.id == row_id).values(status=status))


def _change(connection: sa.Connection, row: Repayment, *where: sa.ColumnElement[bool], **values: Any) -> bool:
    same = (repayments.c.id == row.id, repayments.c.idempotency_key == row.idempotency_key, *where)
    return connection.execute(sa.update(repayments).where(*same).values(**values)).rowcount == 1
