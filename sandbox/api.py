"""Stripe's API without HTTP: a request comes in, an answer goes out.

A request meets, in this order: a fault, the key and what it may do, the address, the idempotency key, the parameters,
the handler. One lock guards the state and is never held during a wait.
"""

import gzip
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from . import idempotency, permissions, routes, webhooks
from .answers import Answer, check_version, instead, mode_of, run
from .calls import API_VERSION, Call
from .clock import Clock
from .cycle import tick
from .delivery import Deliveries
from .errors import ApiError, Json
from .faults import Fault, Faults
from .store import Store
from .webhooks import Endpoint

ACCOUNT = "acct_1SandboxSandboxSan"


class Api:
    """The state, and what changes it."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        seed: int | str | None = None,
        state_path: str | Path | None = None,
        endpoints: Iterable[Endpoint] = (),
        public_url: str | None = None,
        account: str = ACCOUNT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.lock = threading.RLock()
        self.store = Store(state_path, seed)
        self.clock = Clock(clock or time.time)
        self.faults = Faults()
        self.public_url = public_url.rstrip("/") if public_url else None
        self.account = account
        self.log: deque[Json] = deque(maxlen=10_000)
        self._sleep = sleep
        self._endpoints = tuple(endpoints)
        idempotency.forget_running(self.store)
        if (offset := self.store.get("setting", "clock")) is not None:
            self.clock.offset = offset["offset"]
        self.deliveries = Deliveries(self.store, self.lock, self.clock.now)
        self._configure()

    def _configure(self) -> None:
        with self.calling() as call:
            webhooks.plant(call, self._endpoints)

    def request(
        self,
        method: str,
        path: str,
        params: Json | None = None,
        *,
        idempotency_key: str | None = None,
        api_key: str | None = "sk_test_sandbox",
        base_url: str | None = None,
        version: str | None = None,
    ) -> Answer:
        """What Stripe would answer. `params` are nested dicts and lists; numbers may be numbers or text."""
        started = time.perf_counter()
        params = params or {}
        with self.lock:
            request_id = self.store.new_id("req_", 14)
            fault = self.faults.take(method, path)
        kind = fault.kind if fault else None
        if fault and kind == "delay_before":
            self._sleep(fault.seconds)
        spoiled = instead(fault, request_id) if fault else None
        answer = spoiled or self._answer(
            method, path, params, idempotency_key, api_key, request_id, base_url, fault, version
        )
        if fault and kind == "delay_after":
            self._sleep(fault.seconds)
        if kind == "drop_after":
            answer = Answer(0, b"", dropped=True)
        elif kind == "truncated":
            answer = Answer(answer.status, answer.data[: len(answer.data) // 2], answer.headers)
        elif kind == "gzip_bomb":
            headers = {**answer.headers, "Content-Encoding": "gzip"}
            answer = Answer(answer.status, gzip.compress(b" " * 100_000_000, 9), headers)
        with self.lock:
            self.log.append(
                {
                    "request_id": request_id,
                    "at": round(self.clock.now(), 3),
                    "method": method,
                    "path": path,
                    "status": answer.status,
                    "idempotency_key": idempotency_key,
                    "replayed": answer.replayed,
                    "fault": kind,
                    "seconds": round(time.perf_counter() - started, 6),
                }
            )
        return answer

    def _answer(
        self,
        method: str,
        path: str,
        params: Json,
        key: str | None,
        api_key: str | None,
        request_id: str,
        base_url: str | None,
        fault: Fault | None,
        version: str | None,
    ) -> Answer:
        kind = fault.kind if fault else None
        slot: str | None = None
        headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION, "Content-Type": "application/json"}
        try:
            with self.lock:
                livemode = mode_of(api_key)
                check_version(version)
                now = self._tick()
                headers["Date"] = formatdate(now, usegmt=True)
                permissions.check(self.store, api_key, method, path, self.account)
                found = routes.find(method, path)
                if method == "POST" and key:
                    headers["Idempotency-Key"] = key
                    idempotency.check_key(key)
                    wanted = idempotency.record_id(livemode, key)
                    print_ = idempotency.fingerprint(method, path, params)
                    saved = idempotency.begin(self.store, wanted, print_, request_id, now)
                    if saved is not None:
                        headers["Idempotent-Replayed"] = "true"
                        headers["Original-Request"] = saved["request_id"]
                        return Answer(saved["status"], saved["text"].encode(), headers)
                    slot = wanted
            if fault and kind == "delay":
                self._sleep(fault.seconds)
            with self.lock:
                call = self._call(self._tick(), livemode, request_id, key, base_url)
                if fault and kind == "stale_list":
                    call.blind_seconds = fault.seconds
                status, text = run(call, found, params, kind)
                if slot is not None:
                    idempotency.save(self.store, slot, status, text)
                self.store.commit()
                return Answer(status, text.encode(), headers)
        except ApiError as error:
            text = json.dumps(error.body(request_id))
            with self.lock:
                if slot is not None and error.saved:
                    idempotency.save(self.store, slot, error.status, text)
                elif slot is not None:
                    idempotency.forget(self.store, slot)
                self.store.commit()
            headers.setdefault("Date", formatdate(self.clock.now(), usegmt=True))
            return Answer(error.status, text.encode(), headers)

    @contextmanager
    def calling(self, *, base_url: str | None = None, livemode: bool = False) -> Iterator[Call]:
        """A call that no API request caused: a page, the control plane, a test."""
        with self.lock:
            yield self._call(self._tick(), livemode, None, None, base_url)
            self.store.commit()

    def _call(self, now: float, livemode: bool, request_id: str | None, key: str | None, base_url: str | None) -> Call:
        base = self.public_url or base_url or "http://127.0.0.1:12111"
        return Call(self.store, now, livemode, request_id, key, base, self.account, on_event=self.deliveries.enqueue)

    def _tick(self) -> float:
        now = self.clock.now()
        tick(self.store, now, lambda at, livemode: self._call(at, livemode, None, None, None))
        return now
