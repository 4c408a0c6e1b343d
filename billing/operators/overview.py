"""The overview: what an operator asks first, in one short look; lanes in hand; and events as they come.

Reads only, plain dicts, no secrets. Counts are of this moment; with a million events the look takes a fraction of a
second, so it is for a person and not for a gauge.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from billing.clock import Clock
from billing.database import Database
from billing.operators import overview_store

Row = dict[str, Any]

DAY = timedelta(hours=24)
LOOK_SECONDS = 0.5
# Rows are numbered before they are committed. 1,000: more than any transaction that is still open may have taken.
LOOK_BACK_ROWS = 1000


def summarize(*, database: Database, clock: Clock) -> Row:
    """Everything at once, by subject: counts, and since when the oldest of what waits has been waiting."""
    now = clock.now()
    with database.read() as connection:
        bound = overview_store.find_installation(connection)
        return {
            "at": now,
            "stripe": {"account": bound["stripe_account"], "livemode": bound["livemode"]} if bound else None,
            "events": overview_store.count_events(connection, day=now - DAY),
            "checkouts": overview_store.count_checkouts(connection, day=now - DAY),
            "lanes": overview_store.count_lanes(connection),
            "subscriptions": overview_store.count_subscriptions(connection),
            "messages": overview_store.count_messages(connection),
            "incidents": overview_store.count_incidents(connection),
            "replay": overview_store.find_running_replay(connection),
        }


def list_lanes(*, database: Database, limit: int, held: Mapping[str, float]) -> list[Row]:
    """The lanes that are not at rest, and those whose lock somebody holds; `held`: seconds left, by the lock's name."""
    ids = [int(name.removeprefix("lane:")) for name in held if name.removeprefix("lane:").isdecimal()]
    with database.read() as connection:
        rows = [dict(row) for row in overview_store.list_lanes(connection, also=ids, limit=limit)]
    for row in rows:
        row["lock_seconds"] = held.get(f"lane:{row['lane']}")
    return rows


def follow_events(
    *,
    database: Database,
    lines: int,
    stop: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Row]:
    """The last events and then each new one, in the order of their rows, until told to stop."""
    with database.read() as connection:
        rows = overview_store.newest_events(connection, limit=max(lines, LOOK_BACK_ROWS))
    yield from (_shown(row) for row in rows[len(rows) - lines :])
    seen = {row["id"] for row in rows}
    newest = max(seen, default=0)
    while not stop():
        sleep(LOOK_SECONDS)
        with database.read() as connection:
            rows = overview_store.events_after(connection, newest - LOOK_BACK_ROWS, seen)
        yield from (_shown(row) for row in rows)
        newest = max([newest, *(row["id"] for row in rows)])
        seen = {id_ for id_ in seen.union(row["id"] for row in rows) if id_ > newest - LOOK_BACK_ROWS}


def _shown(row: overview_store.Row) -> Row:
    return {name: value for name, value in row.items() if name != "id"}
