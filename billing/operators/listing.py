"""Lists for operators: which rows are wanted, and rows as plain dicts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.customers.store import customers_named, users_named

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """At most so many rows, the newest first: of a user or customer, by either's id, and since then."""

    limit: int
    customer: str | None = None
    since: datetime | None = None

    def where(
        self,
        *,
        at: sa.ColumnElement[Any],
        user_id: sa.ColumnElement[Any] | None = None,
        customer_id: sa.ColumnElement[Any] | None = None,
    ) -> list[sa.ColumnElement[bool]]:
        """The conditions in SQL, by the columns that the table has."""
        found: list[sa.ColumnElement[bool]] = []
        if self.customer and user_id is not None:
            found.append(user_id.in_(users_named(self.customer)))
        if self.customer and customer_id is not None:
            found.append(customer_id.in_(customers_named(self.customer)))
        return [*found, at >= self.since] if self.since else found


def rows_of(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    """The rows of a query, as plain dicts."""
    return [dict(row._mapping) for row in connection.execute(query)]


def first_of(connection: sa.Connection, query: sa.Select[Any]) -> Row | None:
    """The first of them; None where there is none."""
    row = connection.execute(query).first()
    return dict(row._mapping) if row else None
