"""`onelane events tail`: the newest events, then each new one, in the order of their rows.

Each event is shown once. Rows are numbered before they are committed, so each poll also reads the last rows again.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from billing.database import Database
from billing.models import events

Row = dict[str, Any]

POLL_SECONDS = 0.5
# 1,000: more rows than any transaction that is still open can have numbered.
LOOK_BACK_ROWS = 1000
_COLUMNS = [events.c[name] for name in ("id", "received_at", "event_id", "type", "status", "customer_id")]


def follow_events(
    *,
    database: Database,
    lines: int,
    stop: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Row]:
    """Yield the last `lines` events and then each new one, until `stop()`. Raises LedgerUnavailable."""
    with database.read() as connection:
        newest_first = _events().order_by(events.c.id.desc()).limit(max(lines, LOOK_BACK_ROWS))
        rows = connection.execute(newest_first).all()[::-1]
    yield from (_shown(row) for row in rows[len(rows) - lines :])
    shown = {row.id for row in rows}
    newest = max(shown, default=0)
    while not stop():
        sleep(POLL_SECONDS)
        later = _events().where(events.c.id > newest - LOOK_BACK_ROWS).order_by(events.c.id)
        with database.read() as connection:
            rows = [row for row in connection.execute(later) if row.id not in shown]
        yield from (_shown(row) for row in rows)
        newest = max([newest, *(row.id for row in rows)])
        shown = {id_ for id_ in shown.union(row.id for row in rows) if id_ > newest - LOOK_BACK_ROWS}


def _events() -> sa.Select[Any]:
    return sa.select(*_COLUMNS)


def _shown(row: sa.Row[Any]) -> Row:
    return {name: value for name, value in row._mapping.items() if name != "id"}
