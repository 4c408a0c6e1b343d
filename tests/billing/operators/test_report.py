"""`onelane report`, `locks list` and `events tail` on a ledger that has rows."""

import json
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.locks import RedisLocks
from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.models import checkouts, customers, events, incidents, lanes, outbox
from billing.operators.listing import Wanted
from billing.operators.report import list_lanes, summarize
from billing.operators.tail import follow_events
from tests.support.builders import NOON, MovableClock
from tests.support.databases import sqlite_in
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment, onelane, wait_until
from tests.support.valkey import running_valkey


def put_event(connection: sa.Connection, number: int, **instead: Any) -> None:
    times = dict.fromkeys(("next_attempt_at", "created_at", "received_at"), NOON + timedelta(seconds=number))
    row = {"livemode": False, "event_id": f"evt_{number}", "type": "invoice.paid", "status": "done", **times}
    connection.execute(sa.insert(events).values({**row, **instead}))


def put_lane(connection: sa.Connection, number: int, *, state: str = "closed", waits: bool = False) -> None:
    user = f"user_{number}"
    connection.execute(
        sa.insert(customers).values(user_id=user, idempotency_key=f"k{number}", parameters={}, created_at=NOON)
    )
    connection.execute(sa.insert(lanes).values(id=number, user_id=user, product="kiloclaw", state=state))
    if waits:
        asked = {"plan": "standard", "price_id": "price_1", "request": {}, "fingerprint": "f", "body_hash": "h"}
        whose = {"id": f"chk_{number}", "lane_id": number, "user_id": user, "number": 1}
        connection.execute(sa.insert(checkouts).values(asked | whose | {"status": "pending", "arrived_at": NOON}))


def test_summary_counts_what_waits_and_since_when(database: Database) -> None:
    """OPS-41"""
    with database.write() as connection:
        for number in range(5):
            put_event(connection, number)
        put_event(connection, 5, status="pending")
        put_event(connection, 6, status="pending", error="busy")
        put_event(connection, 7, status="dead", received_at=NOON - timedelta(days=3))
        put_lane(connection, 1, state="creating", waits=True)
        put_lane(connection, 2, state="open")
        message = {"customer_id": "cus_1", "kind": "subscription.activated", "payload": {}, "status": "pending"}
        times = {"created_at": NOON, "next_attempt_at": NOON}
        connection.execute(sa.insert(outbox).values(message | times | {"message_id": "msg_1"}))
        incident = {"customer_id": "cus_1", "product": "kiloclaw", "kind": "duplicate_subscriptions", "detail": {}}
        connection.execute(sa.insert(incidents).values(incident | {"opened_at": NOON}))
    seen = summarize(database=database, clock=MovableClock(NOON + timedelta(minutes=1)))
    assert seen["events"] == {
        "dead": 1,
        "done": 5,
        "pending": 2,
        "last_24_h": 7,
        "last_received_at": NOON - timedelta(days=3),  # the newest row's: in the order in which they came
        "failing": 1,
        "oldest_pending_at": NOON + timedelta(seconds=5),
        "error": None,
        "waits_for": None,
    }
    assert seen["checkouts"] == {"pending": 1, "oldest_pending_at": NOON, "waits_for": None}
    assert seen["lanes"] == {"creating": 1, "open": 1, "failing": 0}
    assert seen["messages"] == {"pending": 1, "oldest_pending_at": NOON}
    assert (seen["incidents"], seen["replay"], seen["stripe"]) == ({"duplicate_subscriptions": 1}, None, None)


def test_lanes_in_hand_are_shown_with_their_locks(database: Database, tmp_path: Path) -> None:
    """OPS-41: not at rest, or held; a lane at rest that nobody holds is no news."""
    with database.write() as connection:
        put_lane(connection, 1, state="creating", waits=True)
        put_lane(connection, 2, state="open")
        put_lane(connection, 3, state="open")
    with running_valkey(tmp_path / "valkey") as server:
        client = connect_redis(server.url)
        locks = RedisLocks(client, lifetime_seconds=30)
        with locks.hold("lane:3"), locks.hold("customer:cus_9"):
            held = locks.held()
            assert held is not None
            assert set(held) == {"lane:3", "customer:cus_9"}
            rows = list_lanes(Wanted(10), database=database, held=held)
        server.kill()
        assert locks.held() is None
        client.close()
    assert [(row["lane"], row["state"], row["pending_checkouts"]) for row in rows] == [
        (1, "creating", 1),
        (3, "open", 0),
    ]
    assert rows[0]["lock_seconds"] is None
    assert 0 < rows[1]["lock_seconds"] <= 30


def test_following_shows_each_event_once_also_one_that_was_committed_late(database: Database) -> None:
    """OPS-40: PostgreSQL numbers rows before they are committed, so a smaller number may come after a larger one."""
    with database.write() as connection:
        for number in range(5):
            put_event(connection, number)
    turns = iter(range(4))

    def sleep(_seconds: float) -> None:
        turn = next(turns)
        with database.write() as connection:
            put_event(connection, 10 + turn, id=(100, 50, 101, 102)[turn])

    left = iter([False, False, False, False, True])
    shown = follow_events(database=database, lines=2, stop=lambda: next(left), sleep=sleep)
    assert [row["event_id"] for row in shown] == ["evt_3", "evt_4", "evt_10", "evt_11", "evt_12", "evt_13"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a ledger of three events."""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    (tmp_path / "var").mkdir()
    with sqlite_in(tmp_path / "var") as ledger, ledger.write() as connection:
        for number in range(3):
            put_event(connection, number, type="invoice.paid\x1b[31m")
        put_lane(connection, 1, state="closing")
    return tmp_path


def test_report_and_locks_need_no_redis(folder: Path) -> None:
    """OPS-41"""
    redis = f"redis://127.0.0.1:{own_port()}/0"
    shown = onelane("report", folder=folder, REDIS_URL=redis)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("The broker (REDIS_URL, or CELERY_BROKER_URL) does not answer")
    assert "\nNo web runs" in shown.stdout
    assert onelane("report", "--check", folder=folder, REDIS_URL=redis).returncode == 1
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line}
    assert "done 3" in lines["events"]
    assert "closing 1" in lines["lanes"]
    assert json.loads(onelane("report", "--json", folder=folder, REDIS_URL=redis).stdout)["events"]["done"] == 3
    listed = onelane("locks", "list", "--json", folder=folder, REDIS_URL=redis)
    assert [row["lane"] for row in json.loads(listed.stdout)] == [1]
    assert "Redis does not answer" in listed.stderr


def test_tail_shows_what_comes_and_ends_on_ctrl_c(folder: Path) -> None:
    """OPS-40, OPS-4"""
    words = [sys.executable, "-P", "-m", "onelane", "events", "tail", "--lines", "1"]
    settings: dict[str, Any] = {"cwd": folder, "env": environment(PYTHONPATH=str(ROOT))}
    lines: list[str] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **settings) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or []))
        reader.start()
        wait_until(lambda: len(lines) == 1, lambda: str(lines))
        ledger = Database(f"sqlite:///{folder}/var/ledger.sqlite3")
        with ledger.write() as connection:
            put_event(connection, 3)
        ledger.close()
        wait_until(lambda: len(lines) == 2, lambda: str(lines))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        reader.join()
    assert "evt_2" in lines[0]
    assert "evt_3" in lines[1]
    assert "\x1b" not in "".join(lines)
