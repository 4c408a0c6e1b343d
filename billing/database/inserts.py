"""Inserts that leave alone, or overwrite, a row that is there already: the same for SQLite and PostgreSQL."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert a row unless a unique column says that it is there; whether it was inserted."""
    return insert_new_id(connection, table, values) is not None


def insert_new_id(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> Any:
    """The same; the first column of its primary key, None where the row was there."""
    return connection.execute(_insert_new(table, connection.dialect.name), values).scalar_one_or_none()


def upsert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, adds: bool = False
) -> None:
    """Insert the rows, which have the same columns, and overwrite those whose primary key is there already.

    `adds`: add the other columns, which are numbers, to what is there.
    """
    if not rows:
        return
    insert = _dialects[connection.dialect.name].insert(table)
    keys = [column.name for column in table.primary_key]
    others = {
        name: table.c[name] + insert.excluded[name] if adds else insert.excluded[name]
        for name in rows[0]
        if name not in keys
    }
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=others), rows)


_dialects: Mapping[str, Any] = {"postgresql": postgresql, "sqlite": sqlite}


@cache  # to build a statement takes longer than to run it
def _insert_new(table: sa.Table, dialect: str) -> sa.Executable:
    once: sa.Executable = (
        _dialects[dialect].insert(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
    )
    return once
