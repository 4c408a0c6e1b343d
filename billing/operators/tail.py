"""`onelane events tail`: the newest events, then each new one, in the order of their rows.

Each event is shown once. Rows are numbered before they are committed, so each poll also reads the last rows again.
"""

import time
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from billing.database import Database
from billing.models import events
from billing.operators.listing import Row, rows_of

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
    newest_first = sa.select(*_COLUMNS).order_by(events.c.id.desc()).limit(max(lines, LOOK_BACK_ROWS))
    with database.read() as connection:
        rows = {row.pop("id"): row for row in rows_of(connection, newest_first)[::-1]}
    yield from list(rows.values())[len(rows) - lines :]
    shown = set(rows)
    newest = max(shown, default=0)
    while not stop():
        sleep(POLL_SECONDS)
        later = sa.select(*_COLUMNS).where(events.c.id > newest - LOOK_BACK_ROWS).order_by(events.c.id)
        with database.read() as connection:
            rows = {id_: row for row in rows_of(connection, later) if (id_ := row.pop("id")) not in shown}
        yield from rows.values()
        newest = max([newest, *rows])
        shown = {id_ for id_ in shown.union(rows) if id_ > newest - LOOK_BACK_ROWS}
