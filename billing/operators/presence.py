"""Presence: which processes of ours are there, and which were, by a row that each writes every 10 s.

Times are the database's, so that a process whose clock is off is neither missed nor kept. What a dead process left is
deleted a day later, by the next one that starts. What a process saw happen (`billing/process/marks.py`) is written with
its row, and once a minute the same thread adds what its process counted.
"""

import os
import socket
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
import structlog

from billing.database import Database, insert_new, upsert
from billing.errors import LedgerUnavailable
from billing.models import UtcTime, marks, processes
from billing.operators.minutes import MinuteCounts
from billing.operators.neighbours import Neighbours
from billing.process import marks as seen
from billing.process.marks import Mark

log = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
GONE_AFTER = timedelta(seconds=35)  # three rows missed
KEPT = timedelta(days=1)
_NOW = sa.type_coerce(sa.func.current_timestamp(), UtcTime)


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it said last. `age_seconds` is how long ago that was, by the database's clock."""

    kind: str
    name: str
    queues: tuple[str, ...]
    threads: int
    version: str
    host: str
    pid: int
    started_at: datetime
    age_seconds: float

    @property
    def is_there(self) -> bool:
        """Whether it said something just now."""
        return self.age_seconds < GONE_AFTER.total_seconds()


class Heartbeat:
    """Writes the row of this process, in a thread of its own, until `stop`. A ledger that is away is waited for."""

    def __init__(
        self,
        database: Database,
        *,
        kind: str,
        name: str = "",
        queues: Sequence[str] = (),
        threads: int = 1,
        neighbours: Neighbours | None = None,
    ) -> None:
        """`neighbours`: where to look for processes of other ledgers, as often."""
        self._database, self._neighbours = database, neighbours
        self._row: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "kind": kind,
            "name": (name or kind)[:255],
            "queues": ",".join(queues)[:255],
            "threads": threads,
            "version": version("onelane"),
            "host": socket.gethostname()[:255],
            "pid": os.getpid(),
        }
        self._started_at: datetime | None = None
        self._minutes = MinuteCounts(database)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> "Heartbeat":
        """Begin; the first row comes at once, and is not waited for."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End, and take the row away: who left in order is not missed."""
        self._ended.set()
        self._thread.join(EVERY_SECONDS)
        try:
            with self._database.write() as connection:
                connection.execute(sa.delete(processes).where(processes.c.id == self._row["id"]))
        except LedgerUnavailable:
            log.info("heartbeat.not_taken_away")

    def beat(self) -> None:
        """Write the row once, and what this process saw happen. Raises LedgerUnavailable."""
        happened = seen.take()
        try:
            with self._database.write() as connection:
                now = connection.scalar(sa.select(_NOW))
                assert now is not None
                if self._started_at is None:
                    connection.execute(sa.delete(processes).where(processes.c.seen_at < now - KEPT))
                    self._started_at = now
                upsert(connection, processes, [{**self._row, "started_at": self._started_at, "seen_at": now}])
                for name, mark in happened.items():
                    _add(connection, name, mark, now=now)
        except BaseException:
            for name, mark in happened.items():
                seen.note(name, mark.why, times=mark.times)
            raise
        self._minutes.write_when_over(now)

    def _run(self) -> None:
        told = False
        while not self._ended.is_set():
            try:
                self.beat()
                told = False
            except Exception as error:  # noqa: BLE001  # a process does not end because nobody sees it
                if not told:
                    log.warning("heartbeat.not_written", error=type(error).__name__)
                told = True
            if self._neighbours:
                self._neighbours.note()
            self._ended.wait(EVERY_SECONDS)


def takes(database: Database, queue: str) -> bool:
    """Whether a worker that takes this queue is there. Raises LedgerUnavailable."""
    with database.read() as connection:
        return any(process.is_there and queue in process.queues for process in list_processes(connection))


def _add(connection: sa.Connection, name: str, mark: Mark, *, now: datetime) -> None:
    """Add to what all processes saw of it."""
    insert_new(connection, marks, {"name": name, "times": 0, "last_at": now, "why": mark.why})
    own = sa.update(marks).where(marks.c.name == name)
    connection.execute(own.values(times=marks.c.times + mark.times, last_at=now, why=mark.why))


def count_workers(database: Database) -> int:
    """How many workers are there. Raises LedgerUnavailable."""
    with database.read() as connection:
        return sum(process.kind == "worker" and process.is_there for process in list_processes(connection))


def list_processes(connection: sa.Connection) -> list[Process]:
    """Those that are there and those of the last day, the newest sign of life first."""
    names = [name for name in Process.__slots__ if name not in ("queues", "age_seconds")]
    columns = [processes.c[name] for name in (*names, "queues", "seen_at")]
    found = connection.execute(sa.select(*columns, _NOW.label("now")).order_by(processes.c.seen_at.desc())).all()
    return [
        Process(
            **{name: row._mapping[name] for name in names},
            queues=tuple(row.queues.split(",")) if row.queues else (),
            age_seconds=max(0.0, (row.now - row.seen_at).total_seconds()),
        )
        for row in found
    ]
