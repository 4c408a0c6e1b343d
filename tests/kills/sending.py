"""Stripe's part of a delivery, for many a second: each event is sent until it is answered with 2xx, some of them twice.

The events come as lines of a file that grows. Who has no 2xx waits 1, 2, then 5 s; Stripe is more patient than that.
"""

import heapq
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from pathlib import Path

from billing.webhooks.signature import sign
from tests.kills.world import SIGNING_SECRET

CONNECTIONS = 32
PATIENCE_SECONDS = 10  # as long as a Checkout waits for the answer
BACKOFF_SECONDS = (1, 2, 5)
ALSO_TWICE = 20  # one event in so many comes again after its 2xx
NO_ANSWER = 0


class Sending:
    """The deliveries to one port, from `start` on."""

    def __init__(self, port: int, events: Path) -> None:
        self._port, self._path = port, events
        self.ids: list[str] = []  # of every event that there was
        self.answered: set[str] = set()  # with a 2xx
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []  # of each 2xx
        self._due: list[tuple[float, int, int, str, bytes]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(CONNECTIONS)]
        self._threads.append(threading.Thread(target=self._read, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def deliveries(self) -> int:
        """How often something was sent."""
        return sum(self.statuses.values())

    def undelivered(self) -> int:
        """How many events have no 2xx yet."""
        with self._changed:
            return len(self.ids) - len(self.answered)

    def _read(self) -> None:
        """Every whole line is an event, due at once."""
        with self._path.open("rb") as file:
            rest = b""
            while not self._ended:
                lines = (rest + file.read()).split(b"\n")
                rest = lines.pop()
                with self._changed:
                    for line in lines:
                        self.ids.append(json.loads(line)["id"])
                        self._again(0, 0, self.ids[-1], line)
                    self._changed.notify(len(lines))
                time.sleep(0.02)

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        while one := self._next():
            tries, event_id, body = one
            begun = time.monotonic()
            headers = {"Stripe-Signature": sign(body, SIGNING_SECRET, now=time.time())}
            try:
                connection.request("POST", "/webhooks/stripe", body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = NO_ANSWER
            with self._changed:
                self.statuses[status] += 1
                if status == 200:
                    first = event_id not in self.answered
                    self.answered.add(event_id)
                    self.seconds.append(time.monotonic() - begun)
                    if first and len(self.answered) % ALSO_TWICE == 0:
                        self._again(1, 0, event_id, body)
                else:
                    self._again(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)], tries + 1, event_id, body)
                self._changed.notify()
        connection.close()

    def _next(self) -> tuple[int, str, bytes] | None:
        with self._changed:
            while not self._ended:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    _, _, tries, event_id, body = heapq.heappop(self._due)
                    return tries, event_id, body
                self._changed.wait(wait)
        return None

    def _again(self, seconds: float, tries: int, event_id: str, body: bytes) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._number), tries, event_id, body))
