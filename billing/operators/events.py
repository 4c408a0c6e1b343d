"""Events as an operator looks at them: lists by filter, failures by their error, and one event with its history.

The command line and the console show these and nothing else. Reads only, newest first, as plain dicts without secrets.
An event's payload is personal: it is shown on request only, redacted in the console, and that is audited.
"""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.clock import iso
from billing.database import Database
from billing.errors import NotFound
from billing.maintenance.replay_store import EventFilter, matching
from billing.models import EventStatus, events, replayed_events, replays
from billing.operators.listing import Row, first_of, rows_of
from billing.webhooks.event_search import concrete_types, first_id_since, has_id

_SHOWN = [events.c[name] for name in ("event_id", "status", "received_at", "type", "customer_id", "attempts", "error")]
FAILURES_READ = 5000  # of the newest: a page for a person, within 50 ms
# What differs from one failure to the next of the same kind: ids of Stripe's and ours, long numbers.
_ID = re.compile(r"\b([a-z]{2,8})_[A-Za-z0-9_]{6,}|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d{4,}")


def list_events(chosen: EventFilter, *, database: Database, limit: int, before: str | None = None) -> list[Row]:
    """The newest events that the filter chooses; `before`: those older than the event of this id. Raises NotFound."""
    with database.read() as connection:
        where = _conditions(connection, chosen)
        if before is not None:
            where.append(events.c.id < _row_id(connection, before))
        query = sa.select(*_SHOWN).where(*where).order_by(events.c.id.desc()).limit(limit)
        return rows_of(connection, query)


def group_failures(chosen: EventFilter, *, database: Database) -> list[Row]:
    """What keeps events from being done, the most frequent first: each `error` without ids, and how often it is met.

    Of events that were given up or wait for another try; of more than FAILURES_READ, the newest. Raises
    LedgerUnavailable.
    """
    failing = (
        events.c.status.in_([EventStatus.DEAD, EventStatus.PENDING]),
        sa.or_(events.c.status == EventStatus.DEAD, events.c.error.is_not(None)),
    )
    columns = [events.c[name] for name in ("event_id", "type", "status", "received_at", "error")]
    with database.read() as connection:
        types = concrete_types(connection, chosen.types)
        where = [*matching(replace(chosen, types=())), *failing]
        if types:  # said so that SQLite finds the few by their status, and does not read all of a type
            where.append(sa.func.coalesce(events.c.type, "").in_(types))
        query = sa.select(*columns).where(*where).order_by((events.c.id + 0).desc())  # nor all from the newest on
        rows = connection.execute(query.limit(FAILURES_READ)).all()
    groups: dict[str, Row] = {}
    for row in rows:
        group = groups.setdefault(
            _ID.sub(_without_id, row.error or "no error was kept"),
            {"events": 0, "dead": 0, "types": [], "newest": row.event_id, "newest_at": row.received_at},
        )
        group["events"] += 1
        group["dead"] += row.status == EventStatus.DEAD
        group["oldest_at"] = row.received_at
        if row.type not in group["types"]:
            group["types"].append(row.type)
    found = [{"error": error, **group} for error, group in groups.items()]
    return sorted(found, key=lambda group: -group["events"])


def show_event(event_id: str, *, database: Database, payload: bool = False) -> Row:
    """One event by Stripe's id, with its attempts and the replays that set it back; with its payload on request.

    Raises NotFound.
    """
    with database.read() as connection:
        row = first_of(connection, sa.select(events).where(has_id(event_id)).order_by(events.c.id.desc()))
        if row is None:
            raise NotFound("event")
        del row["claim"]
        columns = [replayed_events.c[name] for name in ("replay_id", "replayed_at", "was_status", "was_error")]
        again = sa.select(*columns, replays.c.reason).join(replays, replays.c.id == replayed_events.c.replay_id)
        again = again.where(replayed_events.c.event_row_id == row["id"]).order_by(replayed_events.c.replay_id)
        row["replays"] = rows_of(connection, again)
    row |= _tried(row)
    found = row.pop("payload")
    if payload:
        row["payload"] = None if found is None else _json_or_text(bytes(found))
    return row


def _tried(row: Row) -> Row:
    """`history`: its attempts, oldest first, as an `at`, `seconds` and `error`, which is None for the one that worked.

    `untraced`: how many failed attempts left none, since it was last set back: their worker was killed or lost the
    ledger, or they were before the ledger kept a history.
    """
    history = list(row["history"] or ())
    since = max((each["replayed_at"] for each in row["replays"]), default=None)
    known = sum(since is None or _end(each) >= since for each in history)
    seconds = row.pop("seconds")
    if row["status"] in (EventStatus.DONE, EventStatus.IGNORED) and seconds is not None:
        began = row["finished_at"] - timedelta(seconds=seconds)
        history.append({"at": iso(began), "seconds": seconds, "error": None})
    return {"history": history, "untraced": max(0, row["attempts"] - known)}


def _end(tried: Row) -> datetime:
    return datetime.fromisoformat(tried["at"]) + timedelta(seconds=tried["seconds"])


def _conditions(connection: sa.Connection, chosen: EventFilter) -> list[sa.ColumnElement[bool]]:
    chosen = replace(chosen, types=concrete_types(connection, chosen.types))
    since = [events.c.id >= first_id_since(connection, chosen.since)] if chosen.since else []
    return [*matching(chosen), *since]


def _row_id(connection: sa.Connection, event_id: str) -> int:
    row_id = connection.scalar(sa.select(sa.func.max(events.c.id)).where(has_id(event_id)))
    if row_id is None:
        raise NotFound("event")
    return int(row_id)


def _without_id(found: re.Match[str]) -> str:
    return f"{found[1]}_…" if found[1] else "…"


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
