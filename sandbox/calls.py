"""One call: what every operation of the sandbox is handed, by an API request, by a page, or by time passing.

`find` and `named` see only the objects of the call's mode, as keys of one mode see nothing of the other.

Time is asked for here. `now` is the time of whom the call is about: once it has found a customer on a test clock, or
what is theirs, it is the clock's. `wall` is the sandbox's own time, the real one at Stripe. Events, money and payment
pages keep it also where there is a test clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError, Json, missing_object
from .forms import Table
from .store import Store

API_VERSION = "2026-10-28.endive"


@dataclass
class Call:
    store: Store
    time: float
    livemode: bool = False
    request_id: str | None = None
    idempotency_key: str | None = None
    base_url: str = "http://127.0.0.1:12111"
    account: str = "acct_sandbox"
    blind_seconds: float = 0.0  # lists leave out what is younger
    on_event: Callable[[Json], None] = field(default=lambda event: None)
    test_clock: str | None = None

    @property
    def now(self) -> int:
        clock = self.store.get("test_clock", self.test_clock) if self.test_clock else None
        return int(clock["frozen_time"]) if clock else self.wall

    @property
    def wall(self) -> int:
        return int(self.time)

    def find(self, kind: str, id: Any) -> Json | None:
        one = self.store.get(kind, id) if isinstance(id, str) else None
        if one is None or one.get("livemode", self.livemode) != self.livemode:
            return None
        self.test_clock = (id if kind == "test_clock" else one.get("test_clock")) or self.test_clock
        return one

    def named(self, kind: str, id: str, *, noun: str | None = None, param: str = "id") -> Json:
        """The object that a path (`param` is `id`) or a parameter names."""
        one = self.find(kind, id)
        if one is None:
            raise missing_object(noun or kind, id, param=param, status=404 if param == "id" else 400)
        return one


Handler = Callable[[Call, Json], Json]
Route = tuple[str, str, Table, Handler]


@dataclass(frozen=True)
class Found:
    """A route, and the ids in the path that was asked for. `address` is as in `known`: `GET /v1/customers/{id}`."""

    address: str
    table: Table
    handler: Handler
    ids: dict[str, str] = field(default_factory=dict)


def not_found(method: str, path: str) -> ApiError:
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at"
        " https://support.stripe.com/.",
    )
