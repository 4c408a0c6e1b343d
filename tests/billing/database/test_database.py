"""SQLite's one writer: a process that writes without a pause must not keep another one waiting."""

import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest

from billing.database import Database, postgres, sqlite
from billing.errors import LedgerUnavailable
from billing.models import lanes
from tests.support.databases import sqlite_in


def test_writer_gets_in_between_the_writes_of_a_busy_process(tmp_path: Path) -> None:
    """In another process' place: a second Database has a line of its own, as another process has."""
    with sqlite_in(tmp_path) as one:
        other, stopped = Database(str(one.url)), threading.Event()

        def busy() -> None:
            while not stopped.is_set():
                with other.write():
                    time.sleep(0.004)
                time.sleep(0.0005)

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            waits = []
            for _ in range(20):
                started = time.monotonic()
                with one.write() as connection:
                    connection.execute(lanes.delete())
                waits.append(time.monotonic() - started)
        finally:
            stopped.set()
            thread.join()
            other.close()
    assert sum(waits) < sqlite.BUSY_SECONDS, f"SQLite's own waiting takes many times as long: {waits}"


def test_who_has_waited_long_tries_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LED-82: else a poller that comes to a lock of a few microseconds' gaps may miss it for seconds."""
    longest = [max(sqlite.pause_seconds(waited) for _ in range(500)) for waited in (0.0, 0.02, 0.1, 1.0)]
    assert longest == sorted(set(longest), reverse=True)
    assert all(pause > 0 for pause in longest)
    told: list[float] = []
    with sqlite_in(tmp_path) as ledger:
        holder = sqlite3.connect(str(ledger.url.database), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")

        def pause(waited: float) -> float:
            told.append(waited)
            if len(told) == 5:
                holder.execute("ROLLBACK")
            return 0.001

        monkeypatch.setattr(sqlite, "pause_seconds", pause)
        with ledger.write():
            pass
        holder.close()
    assert len(told) == 5
    assert told == sorted(set(told)), "each time how long it has been waited for"


def test_ledger_that_stays_locked_is_unavailable_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 85: nobody hangs, and the next one gets in."""
    with sqlite_in(tmp_path) as ledger:
        holder = sqlite3.connect(str(ledger.url.database), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
        with pytest.raises(LedgerUnavailable), ledger.write():
            pass
        holder.execute("ROLLBACK")
        holder.close()
        with ledger.write() as connection:
            connection.execute(lanes.delete())


def test_connection_that_broke_while_it_was_idle_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WHK-93: nobody is told of a PostgreSQL that was started anew meanwhile."""
    monkeypatch.setattr(postgres, "IDLE_SECONDS", 0)
    with database.write() as connection:
        connection.execute(lanes.delete())
    if not database.is_sqlite:
        with psycopg.connect(database.url.set(drivername="postgresql").render_as_string(hide_password=False)) as other:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            other.execute(f"{ended} AND datname = current_database()")
    for block in (database.autocommit, database.write, database.read):
        with block() as connection:
            connection.execute(lanes.delete() if block != database.read else lanes.select())


def test_connection_that_breaks_in_use_fails_once(database: Database) -> None:
    """WHK-93: the next one is new, for all others too."""
    if database.is_sqlite:
        return
    for _ in range(2):
        with pytest.raises(LedgerUnavailable), database.autocommit() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        with database.autocommit() as connection:
            connection.execute(lanes.delete())
