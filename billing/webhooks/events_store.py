"""The ledger of events: every SQL statement about what Stripe delivered.

An event is inserted once, claimed with a lease (`claim`), and finished, ignored, given back or buried by whoever still
holds the claim. Functions take a connection with an open transaction.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from billing.clock import iso
from billing.customers.store import has_erased
from billing.models import EventStatus, events, replayed_events
from billing.rules import lease
from billing.webhooks.envelope import NewEvent

Recorded = tuple[int, EventStatus]
MOST_KEPT = 20  # failed attempts of an event: after so many it is dead

COLUMNS = tuple(name for name in NewEvent.__struct_fields__ if name != "request_id")
# Another account's event, or one of the other mode: kept as it came, never applied. Decided inside the INSERT, so
# that recording is one statement; before the installation is bound, either mode is taken. What is erased stays
# erased: of a late event only the envelope is kept. Text, since SQLAlchemy takes longer to build this than a
# database to run it.
_SELECTED = {
    "status": f"""CASE
    WHEN EXISTS (SELECT 1 FROM installation WHERE installation.livemode <> new.livemode)
      OR new.account <> '' AND NOT EXISTS (SELECT 1 FROM installation WHERE stripe_account = new.account)
    THEN '{EventStatus.REJECTED}' ELSE new.status END""",  # noqa: S608  # made of our own names, here and below
    "payload": f"CASE WHEN {has_erased(sa.literal_column('new.customer_id'))} THEN NULL ELSE new.payload END",
}
_RECORD = f"""INSERT INTO events ({", ".join(COLUMNS)})
WITH new ({", ".join(COLUMNS)}) AS ({{rows}})
SELECT {", ".join(_SELECTED.get(name, f"new.{name}") for name in COLUMNS)}
FROM new WHERE new.event_id IS NOT NULL
ON CONFLICT DO NOTHING
"""  # noqa: S608  # made of our own names
_RETURNED = "id, account, livemode, event_id, status"
_compiler = postgresql.dialect().type_compiler_instance  # type: ignore[no-untyped-call]
# %b: in binary. As text, a payload's bytes would be written in hexadecimal and quoted, at three times the cost.
_ARRAYS = ", ".join(f"%b::{_compiler.process(events.c[name].type)}[]" for name in COLUMNS)
_RECORD_ARRAYS = f"{_RECORD.format(rows=f'SELECT * FROM unnest({_ARRAYS})')} RETURNING {_RETURNED}"  # noqa: S608
# SQLite takes no arrays: a text for each power of two, which its driver keeps prepared, filled up with empty rows.
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_ROW = f"({', '.join('?' * len(COLUMNS))})"
_RECORD_ROWS = {size: _RECORD.format(rows=f"VALUES {', '.join([_ROW] * size)}") for size in _SIZES}
_NO_ROW = (None,) * len(COLUMNS)
# What came of it, in one row. Its driver lets go of the interpreter for every row that it steps to, and to have it back
# takes a while in a busy process. The ids of one INSERT follow each other, since nobody else writes meanwhile.
_INSERTED = f"SELECT json_group_array(json_array({_RETURNED})) FROM events WHERE id > ? AND id <= ?"  # noqa: S608


def record_all(connection: sa.Connection, new: Sequence[NewEvent]) -> list[Recorded | None]:
    """Insert the events, rejected when not of our account and mode; None for each that is there already (LED-1).

    One statement for all of them in PostgreSQL, for each 128 in SQLite. Of the same event twice, the first is recorded.
    """
    if not new:
        return []
    insert = _insert_rows if connection.dialect.name == "sqlite" else _insert_arrays
    found = {(account, bool(mode), id): (row, status) for row, account, mode, id, status in insert(connection, new)}
    answers: list[Recorded | None] = []
    for event in new:
        row = found.pop((event.account, event.livemode, event.event_id), None)
        answers.append(None if row is None else (row[0], EventStatus(row[1])))
    return answers


def _insert_arrays(connection: sa.Connection, new: Sequence[NewEvent]) -> Iterable[Sequence[Any]]:
    columns = zip(*map(_values, new), strict=True)
    return connection.exec_driver_sql(_RECORD_ARRAYS, tuple(map(list, columns))).all()


def _insert_rows(connection: sa.Connection, new: Sequence[NewEvent]) -> Iterable[Sequence[Any]]:
    for begin in range(0, len(new), _SIZES[-1]):
        rows = [_in_sqlite(event) for event in new[begin : begin + _SIZES[-1]]]
        size = next(size for size in _SIZES if size >= len(rows))
        values = tuple(chain.from_iterable([*rows, *[_NO_ROW] * (size - len(rows))]))
        cursor: Any = connection.exec_driver_sql(_RECORD_ROWS[size], values)
        count, last = cursor.rowcount, cursor.lastrowid
        if count:
            yield from json.loads(connection.exec_driver_sql(_INSERTED, (last - count, last)).scalar_one())


_values = attrgetter(*COLUMNS)
_TIMES = [COLUMNS.index(name) for name in ("created_at", "received_at", "next_attempt_at")]


def _in_sqlite(event: NewEvent) -> tuple[Any, ...]:
    """The values as SQLAlchemy's types write them, without asking each type for each value."""
    values = list(_values(event))
    for place in _TIMES:
        values[place] = values[place].isoformat(" ", "microseconds")[:26]  # in UTC, whose +00:00 is left out
    return tuple(values)


def renew(connection: sa.Connection, ids: Iterable[int], *, token: str, now: datetime) -> int:
    """Hold claimed events for longer; how many are still ours."""
    return _mine(connection, token, list(ids), **lease.taken(token, now=now))


def note_customer(connection: sa.Connection, event_row_id: int, *, token: str, customer_id: str) -> None:
    """Note whose event this is, once that was found out, and let go of it.

    It takes its place among the customer's events, so that one fetch is for all of them. Of somebody who was erased the
    payload goes now: while nobody knew whose it is, it was kept.
    """
    payload = sa.case((has_erased(customer_id), sa.null()), else_=events.c.payload)
    _mine(connection, token, [event_row_id], customer_id=customer_id, payload=payload, **lease.FREE)


def read_payload(connection: sa.Connection, event_row_id: int) -> bytes | None:
    """The bytes that came; None once pruned."""
    payload = connection.scalar(sa.select(events.c.payload).where(events.c.id == event_row_id))
    return None if payload is None else bytes(payload)


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed: when it began, how long it took, and why."""

    at: datetime
    seconds: float
    error: str


def finish(
    connection: sa.Connection,
    ids: Iterable[int],
    *,
    token: str,
    status: EventStatus,
    now: datetime,
    seconds: float | None = None,
    error: str = "",
    failure: Failure | None = None,
) -> int:
    """Close claimed events as done, ignored or dead; how many were still ours. `seconds`: what the attempt took."""
    end = {"status": status, "finished_at": now, "error": error or None, "seconds": seconds}
    return _mine(connection, token, list(ids), **(end | _failed(connection, failure)), **lease.FREE)


def give_back(
    connection: sa.Connection, ids: Iterable[int], *, token: str, error: str, until: datetime, failure: Failure | None
) -> int:
    """Let go of claimed events; nobody works on them before `until`. `failure`: where that was one."""
    later = {"error": error, "next_attempt_at": until}
    return _mine(connection, token, list(ids), **later, **_failed(connection, failure), **lease.FREE)


def _failed(connection: sa.Connection, failure: Failure | None) -> dict[str, Any]:
    """One more attempt and its history, in the UPDATE that there is: of more than MOST_KEPT the oldest goes."""
    if failure is None:
        return {}
    tried = json.dumps({"at": iso(failure.at), "seconds": failure.seconds, "error": failure.error})
    known: Any = sa.func.coalesce(events.c.history, sa.literal_column("'[]'"))
    if connection.dialect.name == "sqlite":
        is_full = sa.func.json_array_length(known) >= MOST_KEPT
        kept = sa.case((is_full, sa.func.json_remove(known, "$[0]")), else_=known)
        history: Any = sa.func.json_insert(kept, "$[#]", sa.func.json(tried))
    else:
        is_full = sa.func.jsonb_array_length(known) >= MOST_KEPT
        kept = sa.case((is_full, known.op("-")(sa.literal_column("0"))), else_=known)
        history = kept.op("||")(sa.cast(sa.literal(tried, sa.Text), postgresql.JSONB))
    return {"attempts": events.c.attempts + 1, "seconds": failure.seconds, "history": history}


def _mine(connection: sa.Connection, token: str, ids: list[int], **values: object) -> int:
    """Change events whose claim is still ours: a worker whose lease ran out changes nothing."""
    still = (events.c.id.in_(ids), lease.is_mine(events.c.claim, token), events.c.status == EventStatus.PENDING)
    return connection.execute(sa.update(events).where(*still).values(**values)).rowcount


# --- what the gauges of /metrics show


def count_pending(connection: sa.Connection) -> int:
    return _count(connection, EventStatus.PENDING)


def count_dead(connection: sa.Connection) -> int:
    return _count(connection, EventStatus.DEAD)


def oldest_pending_age_seconds(connection: sa.Connection, now: datetime) -> float:
    """For how long the oldest waiting event has been waiting, since it came or was replayed; 0 when none waits."""
    replayed = sa.select(sa.func.max(replayed_events.c.replayed_at)).where(
        replayed_events.c.event_row_id == events.c.id
    )
    since = sa.func.coalesce(replayed.scalar_subquery(), events.c.received_at)
    oldest = connection.scalar(sa.select(sa.func.min(since)).where(events.c.status == EventStatus.PENDING))
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def _count(connection: sa.Connection, status: EventStatus) -> int:
    counted = connection.scalar(sa.select(sa.func.count()).select_from(events).where(events.c.status == status))
    return int(counted or 0)
