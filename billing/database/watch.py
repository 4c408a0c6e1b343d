"""Watches the connections of one pool, in a thread of its own: none is used without an end, none is kept for nothing.

A statement may wait for a host that died without a word, for a frozen server or for a pooler without a place. Nothing
of PostgreSQL or TCP ends all three, so whoever takes a connection has a time. After it the socket is shut down, and the
driver's wait ends with an error at once.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
from sqlalchemy.pool import ConnectionPoolEntry

LOOK_SECONDS = 0.25
# Closed by then at the latest 25 s after its last use: so a burst of one process leaves room for the others.
IDLE_SECONDS = 20.0

Connection = psycopg.Connection[tuple[object, ...]]


class Watch:
    """What one process does with its connections. A fork begins anew with its first connection."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._pid, self._thread = 0, threading.Thread()
        self._busy: dict[int, tuple[float, Connection]] = {}
        self._idle: dict[ConnectionPoolEntry, float] = {}
        self._guard = threading.Lock()  # of `_idle`: a connection is either taken or closed
        self._due = threading.Event()

    def allow(self, connection: Connection, seconds: float | None) -> None:
        """From now on this connection has so many seconds; None: as long as it takes."""
        if seconds is None:
            self.done(connection)
            return
        if self._pid != os.getpid():
            self._begin()
        self._busy[id(connection)] = (self._monotonic() + seconds, connection)
        if not self._due.is_set():
            self._due.set()

    def done(self, connection: Connection) -> None:
        """It is not used any more, or has all the time it needs."""
        self._busy.pop(id(connection), None)

    def rest(self, entry: ConnectionPoolEntry) -> None:
        """It is back in the pool."""
        self._idle[entry] = self._monotonic()

    def take(self, entry: ConnectionPoolEntry) -> float | None:
        """Out of the pool: for how many seconds it was there, 0 for a new one; None where it was closed there."""
        with self._guard:
            if "closed" in entry.info:
                return None
            since = self._idle.pop(entry, None)
        return 0.0 if since is None else self._monotonic() - since

    def look(self) -> None:
        """Hang up on what took too long, and close what was idle for too long."""
        now = self._monotonic()
        for key, used in list(self._busy.items()):
            until, connection = used
            if now >= until and self._busy.get(key) is used:
                del self._busy[key]
                _hang_up(connection)
        for entry, since in list(self._idle.items()):
            if now - since >= IDLE_SECONDS:
                self._close(entry)

    def _close(self, entry: ConnectionPoolEntry) -> None:
        with self._guard:
            if self._idle.pop(entry, None) is not None:
                entry.info["closed"] = True  # its place in the pool stays; who takes it connects anew
                if entry.driver_connection is not None:
                    entry.driver_connection.close()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._busy, self._idle = {}, {}
        self._guard, self._due = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._due.wait()
            time.sleep(LOOK_SECONDS)
            self.look()
            if not self._busy and not self._idle:
                self._due.clear()
                if self._busy:  # one came in between
                    self._due.set()


def _hang_up(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
