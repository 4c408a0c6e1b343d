"""A clock that is ahead: whatever it wrote into a table delays nobody (OPS-71).

The columns are found by their names, so that a table that is new and has none of its own here fails.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.maintenance import reconcile, replay_store, runs
from billing.maintenance.replay_store import EventFilter
from billing.maintenance.runs import PRUNE_ROW, RECONCILE_ROW
from billing.maintenance.sweep import sweep
from billing.models import (
    UtcTime,
    customers,
    events,
    incidents,
    lanes,
    maintenance_runs,
    metadata,
    operations,
    outbox,
    replays,
)
from billing.notifications.deliver import notify
from billing.notifications.senders import LogNotifier
from billing.subscriptions.troubles import DUPLICATE
from tests.support.builders import NOON, MovableClock

AHEAD = NOON + timedelta(hours=6, seconds=20)  # written by a clock that is six hours ahead
SOON = NOON + timedelta(seconds=20)  # written by a right one
WAITS = re.compile(r"next_.+_at|.+_until")

COLUMNS = [
    f"{table.name}.{column.name}"
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, UtcTime) and WAITS.fullmatch(column.name)
]


def put_event(connection: sa.Connection, **times: datetime) -> None:
    event = {"livemode": False, "event_id": "evt_1", "type": "customer.updated", "customer_id": "cus_1"}
    when = {"created_at": NOON, "received_at": NOON, "next_attempt_at": NOON}
    # Tried before: of what was not, the web's clock gave the time.
    connection.execute(sa.insert(events).values(event | {"status": "pending", "attempts": 1} | when | times))


def put_message(connection: sa.Connection, **times: datetime) -> None:
    message = {"message_id": "msg_1", "customer_id": "cus_1", "kind": "k", "payload": {}, "status": "pending"}
    connection.execute(sa.insert(outbox).values(message | {"created_at": NOON, "next_attempt_at": NOON} | times))


def put_lane(connection: sa.Connection, **lane: Any) -> int:
    customer = {"user_id": "user_1", "idempotency_key": "k", "parameters": {}, "created_at": NOON}
    connection.execute(sa.insert(customers).values(customer))
    made = sa.insert(lanes).values({"user_id": "user_1", "product": "kiloclaw", **lane}).returning(lanes.c.id)
    return connection.execute(made).scalar_one()


def put_unfinished_lane(connection: sa.Connection, **times: datetime) -> None:
    put_lane(connection, state="creating", **times)


def put_operation(connection: sa.Connection, **times: datetime) -> None:
    whose = {"id": "op_1", "lane_id": put_lane(connection), "user_id": "user_1", "number": 1}
    asked = {"kind": "cancel", "request": {}, "body_hash": "h", "status": "pending", "sent": [], "arrived_at": NOON}
    connection.execute(sa.insert(operations).values(whose | asked | times))


def put_incident(connection: sa.Connection, **times: datetime) -> None:
    incident = {"customer_id": "cus_1", "product": "kiloclaw", "kind": DUPLICATE, "detail": {}, "opened_at": NOON}
    connection.execute(sa.insert(incidents).values(incident | times))


def put_replay(connection: sa.Connection, **times: datetime) -> None:
    replay = {"reason": "r", "filter": {}, "state": "running", "counted": 1, "started_at": NOON}
    connection.execute(sa.insert(replays).values(replay | times))


def put_run(connection: sa.Connection, **times: datetime) -> None:
    held = {"claim": "somebody"} if "claimed_until" in times else {}
    connection.execute(sa.insert(maintenance_runs), [{"id": id_, "report": {}, **held, **times} for id_ in (1, 2)])


def is_swept(database: Database) -> bool:
    """Whether the sweep wakes somebody for it."""
    queue = InlineQueue()
    sweep(database=database, queue=queue, clock=MovableClock(), cancels_duplicates=True)
    return bool(queue.sent)


def is_sent(database: Database) -> bool:
    return notify(database=database, notifier=LogNotifier(), clock=MovableClock()).delivered == 1


def is_replaced(database: Database) -> bool:
    """Whether another replay may begin."""
    values: dict[str, Any] = {"reason": "r", "chosen": EventFilter(), "counted": 0, "now": NOON}
    with database.write() as connection:
        return replay_store.begin(connection, **values) is not None


def is_begun(database: Database) -> bool:
    """Whether the next run of either kind begins."""
    with database.write() as connection:
        due = reconcile.is_due(runs.read(connection, RECONCILE_ROW), NOON)
        claims = [runs.claim(connection, row_id, token="t", now=NOON) for row_id in (RECONCILE_ROW, PRUNE_ROW)]
    return due and all(claims)


# How a row with such a time is made, and whether somebody whose clock says noon takes it up.
TABLES: Mapping[str, tuple[Callable[..., None], Callable[[Database], bool]]] = {
    "events": (put_event, is_swept),
    "outbox": (put_message, is_sent),
    "lanes": (put_unfinished_lane, is_swept),
    "operations": (put_operation, is_swept),
    "incidents": (put_incident, is_swept),
    "replays": (put_replay, is_replaced),
    "upkeep": (put_run, is_begun),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_time_by_a_clock_six_hours_ahead_delays_nothing(database: Database, column: str) -> None:
    """OPS-71, faults row 30."""
    table, name = column.split(".")
    put, is_taken_up = TABLES[table]
    with database.write() as connection:
        put(connection, **{name: AHEAD})
    assert is_taken_up(database)


@pytest.mark.parametrize("column", COLUMNS)
def test_time_by_a_right_clock_is_waited_for(database: Database, column: str) -> None:
    """OPS-71, LED-8: else the test above would prove nothing."""
    table, name = column.split(".")
    put, is_taken_up = TABLES[table]
    with database.write() as connection:
        put(connection, **{name: SOON})
    assert not is_taken_up(database)


def test_every_table_is_found() -> None:
    """OPS-71: seven tables, of which three have a lease, too."""
    assert {column.split(".")[0] for column in COLUMNS} == set(TABLES)
