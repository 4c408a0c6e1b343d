"""Limits, in the order in which a request of a buyer meets them; only the first two refuse, both with one 429.

1. A rate per client address, before the credential is looked at, which slows down guessing at tokens (API-39).
2. A rate per user, before the body is looked at (API-30). A server key speaks for many users: each has their own.
3. A semaphore for the requests that wait for a worker, each of which holds a thread, with a share per user (API-22).

Rates are counted in Redis for all processes together. While Redis is down each process counts on for itself (API-31).
"""

import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import structlog
from flask import Flask, Request, request
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from app.auth import Caller, Identity
from app.errors import RateLimited
from billing.coordination.redis_client import connect_redis
from billing.process.settings import KEY_PREFIX, Settings

log = structlog.get_logger(__name__)
EXTENSION = "onelane.refusals"  # where `app/server.py` finds them

# 0.5 s: a Redis that takes longer to count is treated as down, for PAUSE_SECONDS.
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5.0
MOST_KEYS = 10_000  # users or addresses that one process remembers before it forgets those whose window is over
# Of the 160 threads of a process so many may wait for a worker: the rest stays for everybody else.
MOST_WAITERS = 110
WAITERS_OF_ONE = 80
REFUSED_SECONDS, MOST_REFUSALS = 1.0, 1000  # how long a 429 is repeated; and how many are remembered
# One subscriber's line has a whole /64; counted by the address, a client would have 2**64 allowances.
IPV6_PREFIX = 64
NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
_BRACKETED = re.compile(r"\[([^\]]*)\](?::[0-9]+)?")
ADDRESS_UNKNOWN = (
    "A request came without its client's address, and no rate of addresses is counted for such. "
    "Set TRUSTED_PROXIES to the number of proxies that write X-Forwarded-For."
)


class RateLimit:
    """One rate, such as 30/minute, for each user or address: so many in any minute, not in each minute of the clock."""

    def __init__(self, name: str, rate: str, *, storage: RedisStorage | None) -> None:  # None: in this process alone
        self._name = name
        self._rate: RateLimitItem = parse(rate)
        self._shared = MovingWindowRateLimiter(storage) if storage else None
        self._own = _Window(self._rate.amount, self._rate.get_expiry())
        self._paused_until = 0.0

    def take(self, key: str) -> None:
        """Count one request. Raises RateLimited with the seconds until the next one may come.

        This process' own count comes first. What it refuses costs no round trip, and it is right when Redis is lost.
        """
        taken_at = self._own.take(key)
        if taken_at is None:
            raise self._refusal(self._own.seconds_left(key))
        if self._shared and taken_at >= self._paused_until:
            try:
                if not self._shared.hit(self._rate, self._name, key):
                    self._own.give_back(key, taken_at)
                    reset_at = self._shared.get_window_stats(self._rate, self._name, key).reset_time
                    raise self._refusal(reset_at - time.time())
            except StorageError:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("rate_limit.storage_unavailable", limit=self._name)

    def _refusal(self, seconds_left: float) -> RateLimited:
        seconds = max(1, math.ceil(seconds_left))
        # draft-ietf-httpapi-ratelimit-headers: the quota and its window in seconds; what is left, and until when.
        policy = f'"{self._name}";q={self._rate.amount};w={self._rate.get_expiry()}'
        return RateLimited(seconds, {"RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r=0;t={seconds}'})


class _Window:
    """When each key was taken in the last `seconds`, at most `amount` times, in this process."""

    def __init__(self, amount: int, seconds: float) -> None:
        self._amount, self._seconds = amount, seconds
        self._taken: dict[str, deque[float]] = {}
        self._prune_beyond = MOST_KEYS
        self._guard = threading.Lock()

    def take(self, key: str) -> float | None:
        """Take one: when it was taken, or None if all are taken."""
        with self._guard:
            now = time.monotonic()
            times = self._taken.setdefault(key, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) >= self._amount:
                return None
            times.append(now)
            if len(self._taken) > self._prune_beyond:
                self._prune(now)
            return now

    def give_back(self, key: str, taken_at: float) -> None:
        with self._guard, suppress(KeyError, ValueError):  # it may be over by now
            self._taken[key].remove(taken_at)

    def seconds_left(self, key: str) -> float:
        with self._guard:
            times = self._taken.get(key)
            return times[0] + self._seconds - time.monotonic() if times else 0.0

    def _prune(self, now: float) -> None:
        # Who has not come for a whole window; all of them are looked through only now and then.
        self._taken = {key: times for key, times in self._taken.items() if times and times[-1] > now - self._seconds}
        self._prune_beyond = max(MOST_KEYS, 2 * len(self._taken))


class Semaphore:
    """At most `most` requests of this process at once, at most `share` of them one user's. Nobody waits to get in."""

    def __init__(self, most: int, *, share: int) -> None:
        self._most, self._share = most, share
        self._held: Counter[str] = Counter()  # by user
        self._guard = threading.Lock()

    def acquire(self, user_id: str) -> bool:
        """Take a place until `release`; False when none is free, or when the user has their share."""
        with self._guard:
            free = self._held.total() < self._most and self._held[user_id] < self._share
            self._held[user_id] += free
            return free

    def release(self, user_id: str) -> None:
        with self._guard:
            self._held[user_id] -= 1
            self._held += Counter()  # without those that hold none

    @contextmanager
    def place(self, user_id: str) -> Iterator[bool]:
        """Acquire for the block; whether there was a place."""
        acquired = self.acquire(user_id)
        try:
            yield acquired
        finally:
            if acquired:
                self.release(user_id)


class Refusals:
    """Buyers' 429s of the last second: `app/asgi.py` refuses the same request again without a thread (API-75).

    The count is the user's all the same: a request with its credential written in another way is refused by that count.
    """

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str, str], tuple[float, RateLimited]] = {}

    def note(self, request: Request, error: RateLimited) -> None:
        if len(self._refused) >= MOST_REFUSALS:
            self._refused.clear()
        key = (request.method, request.path, request.headers.get("Authorization", ""))
        self._refused[key] = (time.monotonic() + REFUSED_SECONDS, error)

    def check(self, method: str, path: str, credential: str) -> None:
        """Raises RateLimited again where such a request was refused just now."""
        refused = self._refused.get((method, path, credential))
        if refused and time.monotonic() < refused[0]:
            raise RateLimited(refused[1].retry_after, refused[1].limit)


class UserRate:
    """A rate for each user."""

    def __init__(self, rate: RateLimit, refusals: Refusals) -> None:
        self._rate, self._refusals = rate, refusals

    def count(self, caller: Caller, user_id: str, request: Request) -> None:
        """Count a request of this user. Raises RateLimited, and notes it for a buyer."""
        try:
            self._rate.take(user_id)
        except RateLimited as error:
            if not caller.is_server:  # a server's next request is another user's
                self._refusals.note(request, error)
            raise


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process, built once."""

    addresses: RateLimit
    strangers: RateLimit
    checkouts: UserRate
    operations: UserRate
    reads: UserRate
    waiters: Semaphore
    refusals: Refusals


def build_limits(settings: Settings, *, storage_uri: str | None = None, waiters: Semaphore | None = None) -> Limits:
    """The limits that the settings name, counted in REDIS_URL unless told otherwise."""
    storage, refusals = connect_storage(storage_uri or settings.redis_url, settings.redis_key_prefix), Refusals()
    return Limits(
        addresses=RateLimit("addresses", settings.rate_limit_addresses, storage=storage),
        strangers=RateLimit("strangers", settings.rate_limit_addresses, storage=None),
        checkouts=UserRate(RateLimit("checkouts", settings.rate_limit_checkouts, storage=storage), refusals),
        operations=UserRate(RateLimit("operations", settings.rate_limit_checkouts, storage=storage), refusals),
        reads=UserRate(RateLimit("reads", settings.rate_limit_reads, storage=storage), refusals),
        waiters=waiters or Semaphore(MOST_WAITERS, share=WAITERS_OF_ONE),
        refusals=refusals,
    )


def limit_addresses(app: Flask, *, identity: Identity, limits: Limits, uncounted: str) -> None:
    """Count each request by where it came from. X-Forwarded-For counts as far as TRUSTED_PROXIES says.

    The application's own servers speak for many users and are not counted, nor are deliveries (`uncounted`). What needs
    no credential has an allowance of its own, so that no buyer's requests make a probe fail. It is counted in
    this process alone: neither Redis nor the ledger has to do with it (API-92).
    """

    unknown = _Once()

    @app.before_request
    def count() -> None:
        rule = request.url_rule.rule if request.url_rule else ""
        if rule == uncounted:
            return
        needs_credential = rule.startswith("/v1/") and rule != "/v1/plans" and request.method != "OPTIONS"
        if needs_credential and identity.is_server_key(request.headers.get("Authorization", "")):
            return
        if name := counted_as(_seen_address()):
            (limits.addresses if needs_credential else limits.strangers).take(name)
        else:
            unknown.tell()


def _seen_address() -> str:
    """The client's address; nothing where the proxies that are believed did not name it."""
    original = request.environ.get("werkzeug.proxy_fix.orig")  # what ProxyFix documents that it leaves there
    if original and original["REMOTE_ADDR"] == request.remote_addr:
        return ""
    return request.remote_addr or ""


def counted_as(address: str) -> str:
    """The name under which a client address is counted: IPv4 whole, IPv6 by its /64.

    Proxies write it with a port or in brackets, too. Nothing where it is no address: one name for all of those would
    be one allowance for all buyers.
    """
    text = address.strip().strip('"').partition("%")[0]
    if bracketed := _BRACKETED.fullmatch(text):
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    if parsed in NAT64:
        return str(IPv4Address(int(parsed) & 0xFFFFFFFF))  # a whole network of IPv4 is one /64 there
    return str(ip_network((parsed, IPV6_PREFIX), strict=False))


class _Once:
    """Tells the operator once that addresses cannot be counted."""

    def __init__(self) -> None:
        self._told = False

    def tell(self) -> None:
        if not self._told:
            self._told = True
            log.warning("rate_limit.address_unknown", sentence=ADDRESS_UNKNOWN)


def connect_storage(uri: str, prefix: str = KEY_PREFIX) -> RedisStorage | None:
    """Where all processes count together; None for memory://, where each counts for itself."""
    if uri.startswith("memory://"):
        return None
    pool = connect_redis(uri, answer_seconds=TIMEOUT_SECONDS).connection_pool
    # The pool is what it uses; the address says only that it is Redis.
    return RedisStorage("redis://", connection_pool=pool, key_prefix=f"{prefix}limit", wrap_exceptions=True)
