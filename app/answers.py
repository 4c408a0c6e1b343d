"""Answers that may take a moment: a request is counted and recorded, waits a bounded time, and is answered.

Checkouts and operations share all of it. That is the counted body, `Prefer: wait`, Idempotency-Key, the 202 with its
Location and Retry-After, and a worker's refusal. No answer here may be stored (API-23, API-41).
"""

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from flask import Request, Response, jsonify, request

from app.bodies.reading import Body, Reader, read_body
from app.bodies.schemas import ServerBody
from app.errors.problems import PROBLEMS
from app.errors.rendering import problem
from app.identity.callers import Caller
from app.limits.waiters import Semaphore
from billing.coordination.wakeups import POLLING, wait_while
from billing.errors import InvalidRequest
from billing.services import Services


class Answerable(Protocol):
    """A checkout or an operation as it is read."""

    @property
    def status(self) -> str:
        """What a worker has made of it; `pending` until then."""


Named = TypeVar("Named", bound=ServerBody)
View = TypeVar("View", bound=Answerable)
MOST_WAIT_SECONDS = 20.0
RETRY_AFTER_SECONDS = 1  # a checkout takes two to five Stripe calls
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?")
_KEY = re.compile(r'"(?P<quoted>[\x20\x21\x23-\x7e]{1,255})"|(?P<bare>[\x21\x23-\x7e][\x21-\x7e]{0,254})')


class Wait:
    """How long one request waits, from when it came: what a slow Redis took is not waited for once more (API-29)."""

    def __init__(self, request: Request, *, default: float) -> None:
        self._started = time.monotonic()
        self.preferred = preferred_wait(request.headers.getlist("Prefer"))
        self.seconds = default if self.preferred is None else self.preferred

    @property
    def elapsed(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds that it may still wait."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def is_over(self) -> bool:
        """Whether it waited, and to the end."""
        return self.seconds > 0 and not self.left


def read_counted(
    caller: Caller,
    request: Request,
    model: type[Body],
    named: type[Named],
    *,
    count: Callable[[Caller, str, Request], None],
    read: Reader = read_body,
) -> tuple[str, Body | Named]:
    """Count the user, and read the body as `model`, or as `named` where the body of a server names the user.

    A buyer is counted before the body is looked at, a server's user once they are named (API-30).
    """
    if caller.user_id is not None:
        count(caller, caller.user_id, request)
        return caller.user_id, read(request, model)
    body = read(request, named)
    count(caller, body.user_id, request)
    return body.user_id, body


def preferred_wait(prefer: list[str]) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most 20. A preference that cannot be read is no preference."""
    for preference in ",".join(prefer).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip().lower()):
            return min(float(found[1]), MOST_WAIT_SECONDS)
    return None


def idempotency_key(header: str | None) -> str | None:
    """The Idempotency-Key, quoted as the draft standard has it or bare as everybody sends it."""
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    if not found:
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters, quoted or bare.")
    return found["quoted"] or found["bare"]


def await_view(
    read: Callable[..., View],
    id_: str,
    user_id: str,
    wait: Wait,
    *,
    services: Services,
    waiters: Semaphore,
    enqueued: bool = True,
    is_new: bool = False,
) -> View:
    """What `read` gives once it is settled or the wait is over; at once without a waiting place (API-22).

    `is_new`: this request recorded it. `enqueued`: whether a worker was woken for it.
    """
    look = partial(read, id_, user_id=user_id, database=services.database, clock=services.clock)
    wakeups = services.wakeups if enqueued else POLLING
    with waiters.place(user_id) as has_place:
        seconds = wait.left if has_place else 0
        return wait_while(_is_pending, look, id_, wakeups=wakeups, seconds=seconds, is_new=is_new)


def _is_pending(view: Answerable) -> bool:
    return view.status == "pending"


def workers_available(services: Services, wait: Wait, *, is_pending: bool, enqueued: bool) -> bool:
    """Whether workers can be told of a request. The broker is asked only about one that waited to the end in vain.

    Asking a hung broker takes a second, and what is not pending, or was not waited for, says nothing about it.
    """
    if not (is_pending and wait.is_over):
        return True
    return enqueued and services.wakeups.available() and services.queue.trouble() is None


def pending(
    body: Mapping[str, Any], location: str, *, trouble: str | None, available: bool, **ids: Any
) -> tuple[Response, str]:
    """The answer to a request that is recorded and not done, and its name in the metrics.

    `trouble` is what keeps Stripe from it (API-27); `available` whether workers can be told of it (API-28).
    """
    if trouble and trouble in PROBLEMS:
        answer, outcome = problem(trouble, **ids), trouble
    elif not available:
        words = "The request is recorded, but no worker can be told of it just now. Look at its Location later."
        answer, outcome = problem("try_again", words, **ids), "try_again"
    else:
        answer, outcome = jsonify(body), "pending"
        answer.status_code = 202
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    answer.headers["Location"] = request.script_root + location
    return answer, outcome


def refusal(error: Mapping[str, Any] | None, *, otherwise: str, **ids: Any) -> tuple[Response, str]:
    """The answer to a request that a worker refused, and its code; `otherwise` where the error names none."""
    error = error or {}
    code = error["code"] if error.get("code") in PROBLEMS else otherwise
    # `status` is the problem's own; the subscription's goes by its full name.
    extra = {name: value for name, value in error.items() if name not in ("code", "detail", "status")}
    if "status" in error:
        extra["subscription_status"] = error["status"]
    return problem(code, error.get("detail"), **ids, **extra), code


def private(answer: Response, wait: Wait, *, replayed: bool = False) -> Response:
    """Nobody may store this answer; which wait was honoured; and whether an earlier request made what it shows."""
    answer.cache_control.no_store = True
    if wait.preferred is not None:
        answer.headers["Preference-Applied"] = f"wait={wait.preferred:.0f}"
    if replayed:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


def shown(body: Mapping[str, Any], wait: Wait) -> Response:
    """The answer to a GET of something that may still be pending."""
    answer = jsonify(body)
    if body["status"] == "pending":
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return private(answer, wait)
