"""Webhook delivery: signed like Stripe, at least once, from a few threads, again and again until an answer is 2xx.

What is still to be sent is in the store, so a restart goes on with it. Retries wait by the sandbox's clock: who moves
it a day ahead has them sent. The signature carries the real time, because the receiver compares it with its own.
"""

import heapq
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from . import thin
from .errors import Json
from .store import Store
from .webhook_post import post
from .webhooks import listening

# Stripe retries for up to three days; here the first ones come quickly, because a developer is watching.
BACKOFF_SECONDS = (1, 2, 5, 15, 60, 300, 900, 3600, *(7200,) * 36)
_KIND = "delivery"
_THREADS = 8
_TIMEOUT = 10.0  # as long as a Checkout waits for the answer
_SHUFFLE_SECONDS = 1.5
_ATTEMPTS_SHOWN = 10


@dataclass
class Settings:
    """`drop`: the next n attempts never arrive, and are retried. `lose`: the next n deliveries are never made."""

    paused: bool = False
    duplicate: int = 0
    shuffle: bool = False
    drop: int = 0
    lose: int = 0
    timeout_seconds: float = _TIMEOUT

    def update(self, values: Json) -> None:
        known = {each.name: each.type for each in fields(self)}
        for name, value in values.items():
            kind = known.get(name)
            wanted: tuple[type, ...] = (bool,) if kind is bool else (int,) if kind is int else (int, float)
            if kind is None or not isinstance(value, wanted) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"unknown setting or value: {name}; known: {', '.join(known)}")
        for name, value in values.items():
            setattr(self, name, value)

    def shown(self) -> Json:
        return asdict(self)


class Deliveries:
    def __init__(self, store: Store, lock: threading.RLock, now: Callable[[], float]) -> None:
        self.settings = Settings()
        self._store = store
        self._now = now
        self._changed = threading.Condition(lock)
        self._waiting: list[tuple[float, int, str]] = []
        self._number = 0
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self.reload()

    # Called with the sandbox's lock held ----------------------------------------------------------------------------

    def enqueue(self, event: Json) -> None:
        """One delivery for each endpoint that wants the event."""
        endpoints = listening(self._store, event)
        for endpoint in endpoints:
            lost = self.settings.lose > 0
            if lost:
                self.settings.lose -= 1
            self._store.put(
                _KIND,
                {
                    "id": f"{event['id']}:{endpoint['id']}",
                    "event": event["id"],
                    "type": event["type"],
                    "endpoint": endpoint["id"],
                    "url": endpoint["url"],
                    "created": event["created"],
                    "status": "lost" if lost else "pending",
                    "attempts": 0,
                    "tries": [],
                    "next_at": self._now() + self._jitter(),
                },
            )
            if not lost:
                self._schedule(f"{event['id']}:{endpoint['id']}")
        if endpoints:
            self._store.change("event", event["id"], pending_webhooks=len(endpoints))

    def again(self, event_id: str) -> int:
        """Everything about this event once more, as a click on Resend does; the attempts so far stay on record."""
        event = self._store.get("event", event_id)
        if event is None:
            raise KeyError(event_id)
        count = 0
        for endpoint in listening(self._store, event):
            id = f"{event_id}:{endpoint['id']}"
            if self._store.get(_KIND, id) is None:
                self.enqueue(event)
                return len(listening(self._store, event))
            self._store.change(_KIND, id, status="pending", next_at=self._now())
            self._schedule(id)
            count += 1
        return count

    def reload(self) -> None:
        """Everything that is still to be sent, after a start or a return to an earlier moment."""
        self._waiting = []
        for one in self._store.all(_KIND):
            if one["status"] == "pending":
                self._schedule(one["id"])

    def nudge(self) -> None:
        """Settings or the clock changed: the waiting threads look again."""
        with self._changed:
            self._changed.notify_all()

    def _schedule(self, id: str) -> None:
        one = self._store.get(_KIND, id)
        if one is not None:
            self._number += 1
            heapq.heappush(self._waiting, (one["next_at"], self._number, id))
            with self._changed:
                self._changed.notify()

    def _jitter(self) -> float:
        return random.uniform(0, _SHUFFLE_SECONDS) if self.settings.shuffle else 0.0  # noqa: S311  order, not secrecy

    # The threads ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._stopping = False
        for number in range(_THREADS):
            thread = threading.Thread(target=self._run, name=f"sandbox-delivery-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 0.5) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (self.settings.paused or not self._is_due()):
                    self._changed.wait(self._seconds_to_next())
                if self._stopping:
                    return
                _, _, id = heapq.heappop(self._waiting)
                prepared = self._prepare(id)
            if prepared is None:
                continue
            url, payload, secrets, copies = prepared
            started = time.monotonic()
            status: int = 0
            error: str | None = "dropped by the sandbox"
            for _ in range(copies):
                status, error = post(url, payload, secrets, self.settings.timeout_seconds)
            self._record(id, status, error, time.monotonic() - started)

    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= self._now()

    def _seconds_to_next(self) -> float | None:
        if self.settings.paused or not self._waiting:
            return None
        return max(0.0, self._waiting[0][0] - self._now())

    def _prepare(self, id: str) -> tuple[str, bytes, list[str], int] | None:
        one = self._store.get(_KIND, id)
        endpoint = self._store.get("webhook_endpoint", one["endpoint"]) if one else None
        event = self._store.get("event", one["event"]) if one else None
        if one is None or one["status"] != "pending":
            return None
        if endpoint is None or event is None or endpoint["status"] != "enabled":
            self._store.change(_KIND, id, status="canceled")
            return None
        copies = 1 + self.settings.duplicate
        if self.settings.drop > 0:
            self.settings.drop -= 1
            copies = 0
        payload = json.dumps(thin.notification(event) if endpoint.get("_thin") else event, indent=2).encode()
        now = time.time()
        active = [each for each in endpoint["_secrets"] if endpoint.get("_until", {}).get(each, now) >= now]
        return endpoint["url"], payload, active, copies

    def _record(self, id: str, status: int, error: str | None, seconds: float) -> None:
        with self._changed:
            one = self._store.get(_KIND, id)
            if one is None:
                return
            tried = {
                "at": round(time.time(), 3),
                "status": status or None,
                "error": error,
                "seconds": round(seconds, 3),
            }
            answered = 200 <= status < 300
            attempts = one["attempts"] + 1
            changes: Json = {"attempts": attempts, "tries": [*one["tries"], tried][-_ATTEMPTS_SHOWN:]}
            if answered:
                changes["status"] = "succeeded"
                event = self._store.get("event", one["event"])
                if event is not None and one["status"] == "pending":
                    left = max(0, event["pending_webhooks"] - 1)
                    self._store.change("event", event["id"], pending_webhooks=left)
            elif attempts > len(BACKOFF_SECONDS):
                changes["status"] = "failed"
            else:
                changes["next_at"] = self._now() + BACKOFF_SECONDS[attempts - 1]
            self._store.change(_KIND, id, **changes)
            if not answered and attempts <= len(BACKOFF_SECONDS):
                self._schedule(id)
            self._store.commit()
            self._changed.notify_all()

    def wait_for_answer(self, event_id: str, timeout: float = _TIMEOUT) -> bool:
        """Whether every endpoint of the event has answered once, 2xx or not, within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._answered(event_id), timeout)

    def _answered(self, event_id: str) -> bool:
        event = self._store.get("event", event_id)
        if event is None or self._stopping or not self._threads:
            return True
        found = (self._store.get(_KIND, f"{event_id}:{one['id']}") for one in listening(self._store, event))
        return all(one is None or one["attempts"] > 0 or one["status"] != "pending" for one in found)

    def wait_until_idle(self, timeout: float = 5.0) -> bool:
        """Whether nothing is pending any more, for tests."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(one["status"] != "pending" for one in self._store.all(_KIND)), timeout
            )
