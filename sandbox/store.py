"""All that the sandbox knows: objects by kind and id, in the order in which they came.

An object is never changed in place: `put` and `change` set a new dict, so events and snapshots may share the old one.
Fields that begin with an underscore are the sandbox's own and never leave it; `_due` is the time at which an object
has to be looked at again, of its `test_clock` where it has one. With a path, every commit also writes what changed to a
SQLite file.
"""

import hashlib
import heapq
import json
import secrets
import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Json

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Store:
    def __init__(self, path: str | Path | None = None, seed: int | str | None = None) -> None:
        self._seed = secrets.token_hex(16) if seed is None else str(seed)
        self._counter = 0
        self._requests = 0  # apart, so that reading changes no later id
        self._next = 1
        self._kinds: dict[str, dict[str, Json]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._order: dict[tuple[str, str | None], list[tuple[int, str]]] = {}
        self._due: dict[str | None, list[tuple[float, str, str]]] = {}  # by test clock; the sandbox's own time is None
        self._dirty: set[tuple[str, str]] = set()
        self._undo: list[tuple[str, str, Json | None]] | None = None
        self._file: sqlite3.Connection | None = None
        if path is not None:
            self._open(Path(path))

    # Reading ------------------------------------------------------------------------------------------------------

    def get(self, kind: str, id: str) -> Json | None:
        return self._kinds.get(kind, {}).get(id)

    def all(self, kind: str) -> list[Json]:
        return list(self._kinds.get(kind, {}).values())

    def counts(self) -> dict[str, int]:
        return {kind: len(found) for kind, found in sorted(self._kinds.items()) if found}

    def newest_first(
        self, kind: str, *, customer: str | None = None, after: str | None = None, before: str | None = None
    ) -> Iterator[Json]:
        """From the newest, or from just past `after`; with `before` from just past it towards the newest."""
        order = self._order.get((kind, customer), [])
        found = self._kinds.get(kind, {})
        if before is not None:
            start = bisect_right(order, (self._numbers[kind, before], "\uffff"))
            positions = range(start, len(order))
        else:
            end = len(order) if after is None else bisect_left(order, (self._numbers[kind, after], ""))
            positions = range(end - 1, -1, -1)
        for position in positions:
            one = found.get(order[position][1])
            if one is not None:
                yield one

    def next_due(self, now: float, clock: str | None = None) -> tuple[float, str, Json] | None:
        """Takes the earliest object whose time has come; entries that a later change made stale are skipped."""
        due = self._due.get(clock, [])
        while due and due[0][0] <= now:
            at, kind, id = heapq.heappop(due)
            one = self.get(kind, id)
            if one is not None and one.get("_due") == at and one.get("test_clock") == clock:
                return at, kind, one
        return None

    # Writing ------------------------------------------------------------------------------------------------------

    def new_id(self, prefix: str, length: int = 24) -> str:
        """Unguessable without a seed, the same sequence with one."""
        if prefix == "req_":
            self._requests += 1
            source = f"{self._seed}/request/{self._requests}"
        else:
            self._counter += 1
            source = f"{self._seed}/{self._counter}"
        number = int.from_bytes(hashlib.sha512(source.encode()).digest())
        letters = []
        for _ in range(length):
            number, index = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[index])
        return prefix + "".join(letters)

    def put(self, kind: str, one: Json) -> Json:
        id = one["id"]
        old = self.get(kind, id)
        if self._undo is not None:
            self._undo.append((kind, id, old))
        if old is not None and old.get("customer") != one.get("customer"):
            self._unindex(kind, old, self._numbers[kind, id])
            self._index(kind, one, self._numbers[kind, id])
        self._kinds.setdefault(kind, {})[id] = one
        if (kind, id) not in self._numbers:
            self._index(kind, one, self._next)
        self._push(kind, one)
        if self._file is not None:
            self._dirty.add((kind, id))
        return one

    def _push(self, kind: str, one: Json) -> None:
        if (at := one.get("_due")) is not None:
            heapq.heappush(self._due.setdefault(one.get("test_clock"), []), (at, kind, one["id"]))

    def change(self, kind: str, id: str, **fields: Any) -> Json:
        return self.put(kind, {**self._kinds[kind][id], **fields})

    def remove(self, kind: str, id: str) -> None:
        gone = self._kinds.get(kind, {}).pop(id, None)
        if gone is None:
            return
        if self._undo is not None:
            self._undo.append((kind, id, gone))
        self._unindex(kind, gone, self._numbers.pop((kind, id)))
        if self._file is not None:
            self._dirty.add((kind, id))

    @contextmanager
    def undone_by_refusal(self) -> Iterator[None]:
        """What is written inside is taken back, ids included, where it ends in an error that does not keep it."""
        counter, self._undo = self._counter, []
        try:
            yield
        except Exception as error:
            undo, self._undo = self._undo, None
            if not getattr(error, "keeps_changes", False):
                for kind, id, old in reversed(undo):
                    if old is None:
                        self.remove(kind, id)
                    else:
                        self.put(kind, old)
                self._counter = counter
            raise
        finally:
            self._undo = None

    def clear(self) -> None:
        for kind, found in self._kinds.items():
            self._dirty.update((kind, id) for id in found)
        self._kinds, self._numbers, self._order, self._due = {}, {}, {}, {}
        self.commit()

    def _index(self, kind: str, one: Json, number: int) -> None:
        self._numbers[kind, one["id"]] = number
        self._next = max(self._next, number + 1)
        for scope in {None, one.get("customer")}:
            if scope is None or isinstance(scope, str):
                insort(self._order.setdefault((kind, scope), []), (number, one["id"]))

    def _unindex(self, kind: str, one: Json, number: int) -> None:
        for scope in {None, one.get("customer")}:
            order = self._order.get((kind, scope), [])
            if (at := bisect_left(order, (number, one["id"]))) < len(order) and order[at] == (number, one["id"]):
                del order[at]

    # Moments that can be returned to ------------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        return (
            {kind: dict(found) for kind, found in self._kinds.items()},
            dict(self._numbers),
            {scope: list(ids) for scope, ids in self._order.items()},
            {clock: list(due) for clock, due in self._due.items()},
            self._counter,
            self._next,
        )

    def restore(self, moment: tuple[Any, ...]) -> None:
        before = {(kind, id) for kind, found in self._kinds.items() for id in found}
        kinds, numbers, order, due, self._counter, self._next = moment
        self._kinds = {kind: dict(found) for kind, found in kinds.items()}
        self._numbers = dict(numbers)
        self._order = {scope: list(ids) for scope, ids in order.items()}
        self._due = {clock: list(found) for clock, found in due.items()}
        if self._file is not None:
            self._dirty |= before | {(kind, id) for kind, found in self._kinds.items() for id in found}
            self.commit()

    # The file -----------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS records"
            " (kind TEXT, id TEXT, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))"
        )
        rows = self._file.execute("SELECT kind, id, number, body FROM records ORDER BY number").fetchall()
        for kind, id, number, body in rows:
            if kind == "_counter":
                self._counter = number
                if body:
                    self._seed = body
                continue
            one = json.loads(body)
            self._kinds.setdefault(kind, {})[id] = one
            self._index(kind, one, number)
            self._push(kind, one)

    def commit(self) -> None:
        """Writes what changed since the last commit, in one transaction."""
        if self._file is None or not self._dirty:
            return
        kept: list[tuple[str, str, int, str]] = [("_counter", "", self._counter, self._seed)]
        gone: list[tuple[str, str]] = []
        for kind, id in self._dirty:
            one = self.get(kind, id)
            if one is None:
                gone.append((kind, id))
            else:
                kept.append((kind, id, self._numbers[kind, id], json.dumps(one, separators=(",", ":"))))
        self._dirty.clear()
        self._file.execute("BEGIN")
        self._file.executemany("DELETE FROM records WHERE kind = ? AND id = ?", gone)
        self._file.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", kept)
        self._file.execute("COMMIT")

    def close(self) -> None:
        if self._file is not None:
            self.commit()
            self._file.close()
            self._file = None
