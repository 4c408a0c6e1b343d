"""Things that go wrong on demand. A fault waits for requests that match it and spoils the next `times` of them.

status                       a Stripe-shaped error; nothing is executed, nothing is saved
rate_limit                   429 for what is more than `per_second` within a second; nothing is executed
html, redirect               a proxy answers instead of Stripe: nothing is executed
drop_before, drop_after      the connection breaks: before anything happened, or after everything did
delay_before, delay_after    slow on the way in (the key is not taken yet), or on the way out
delay                        slow while it runs: the key is taken, so the same key answers 409 meanwhile
stale_list                   a list that does not know yet what was created in the last `seconds`
truncated, gzip_bomb         executed, but half of the body is missing, or it unpacks to 100 MB
save_500_without_effect      500, saved under the idempotency key; nothing was done
save_500_with_effect         500, saved under the idempotency key; everything was done
"""

import re
import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from .errors import Json

Kind = Literal[
    "status",
    "rate_limit",
    "html",
    "redirect",
    "drop_before",
    "drop_after",
    "delay_before",
    "delay",
    "delay_after",
    "stale_list",
    "truncated",
    "gzip_bomb",
    "save_500_without_effect",
    "save_500_with_effect",
]


_TYPES: dict[str, tuple[type, ...]] = {
    "method": (str, type(None)),
    "path": (str,),
    "status": (int,),
    "seconds": (int, float),
    "per_second": (int,),
    "times": (int, type(None)),
    "skip": (int,),
    "code": (str, type(None)),
    "message": (str, type(None)),
    "headers": (dict,),
}


@dataclass(frozen=True)
class Fault:
    """`path` is a prefix, or a regular expression (`re.search`); `skip` lets that many matches pass first."""

    kind: Kind
    method: str | None = None
    path: str = "/"
    status: int = 500
    seconds: float = 1.0
    per_second: int = 25  # as Stripe's sandboxes
    times: int | None = 1
    skip: int = 0
    code: str | None = None
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    id: int = 0
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        if self.method not in (None, method):
            return False
        return path.startswith(self.path) or re.search(self.path, path) is not None


class Faults:
    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._last_id = 0
        self._let_through: deque[float] = deque()  # when; of the limited ones

    def add(self, kind: str, **fields: Any) -> Fault:
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind of fault {kind!r}; known: {', '.join(get_args(Kind))}")
        unknown = set(fields) - set(_TYPES)
        if unknown:
            raise ValueError(f"unknown fields of a fault: {', '.join(sorted(unknown))}")
        if fields.get("method"):
            fields["method"] = str(fields["method"]).upper()
        for name, kinds in _TYPES.items():
            if name in fields and (isinstance(fields[name], bool) or not isinstance(fields[name], kinds)):
                raise ValueError(f"{name} of a fault has the wrong type")
        if fields.get("times") is not None and fields["times"] < 1:
            raise ValueError("times of a fault must be 1 or more, or null for ever")
        try:
            re.compile(fields.get("path", "/"))
        except re.error as error:
            raise ValueError(f"path is no regular expression: {error}") from error
        self._last_id += 1
        fault = Fault(kind, **{**fields, "id": self._last_id})  # type: ignore[arg-type]
        self._waiting.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault that this request meets; at most one a request."""
        for index, fault in enumerate(self._waiting):
            if not fault.matches(method, path):
                continue
            if fault.skip:
                self._waiting[index] = replace(fault, skip=fault.skip - 1)
                continue
            if fault.kind == "rate_limit" and self._is_within(fault.per_second):
                continue
            left = None if fault.times is None else fault.times - 1
            self._waiting[index] = replace(fault, times=left, hits=fault.hits + 1)
            if left == 0:
                del self._waiting[index]
            return fault
        return None

    def _is_within(self, per_second: int) -> bool:
        """Count a request of this moment; whether it is one of those that may pass."""
        now = time.monotonic()
        while self._let_through and self._let_through[0] <= now - 1:
            self._let_through.popleft()
        if len(self._let_through) >= per_second:
            return False
        self._let_through.append(now)
        return True

    def clear(self) -> None:
        self._waiting.clear()

    def shown(self) -> list[Json]:
        return [asdict(fault) for fault in self._waiting]
