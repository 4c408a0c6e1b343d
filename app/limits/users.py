"""The rates of users, the refusals of the last second, and all limits of a process together."""

import time
from dataclasses import dataclass

import redis
from flask import Request

from app.errors.problems import RateLimited
from app.identity.callers import Caller
from app.limits.rates import RateLimit, shared_storage
from app.limits.waiters import MOST_WAITERS, WAITERS_OF_ONE, Semaphore
from billing.process.settings import Settings

EXTENSION = "onelane.refusals"  # where `app/serving/server.py` finds them
REFUSED_SECONDS, MOST_REFUSALS = 1.0, 1000  # how long a 429 is repeated; and how many are remembered
# Of one that is remembered; a token with many claims has 2 KiB. A path may be 60 KB long, and each time another one.
MOST_CHARACTERS = 4096
LOGINS = "20/minute"  # tries of one address to log in to the console; each wrong one waits longer besides


class Refusals:
    """Buyers' 429s of the last second: `app/serving/asgi.py` refuses the same request again without a thread (API-75).

    The count is the user's all the same: a request with its credential written in another way is refused by that count.
    """

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str, str], tuple[float, RateLimited]] = {}

    def note(self, request: Request, error: RateLimited) -> None:
        if len(self._refused) >= MOST_REFUSALS:
            self._refused.clear()
        key = (request.method, request.path, request.headers.get("Authorization", ""))
        if sum(map(len, key)) > MOST_CHARACTERS:
            return
        self._refused[key] = (time.monotonic() + REFUSED_SECONDS, error)

    def check(self, method: str, path: str, credential: str) -> None:
        """Raises RateLimited again where such a request was refused just now."""
        refused = self._refused.get((method, path, credential))
        if refused and time.monotonic() < refused[0]:
            raise RateLimited(refused[1].retry_after, refused[1].limit)


class UserRate:
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
    logins: RateLimit
    checkouts: UserRate
    different_checkouts: RateLimit
    operations: UserRate
    reads: UserRate
    waiters: Semaphore
    refusals: Refusals


def build_limits(settings: Settings, client: "redis.Redis | None", *, waiters: Semaphore | None = None) -> Limits:
    """The limits that the settings name, counted by this client of Redis; without one in this process alone."""
    storage, refusals = shared_storage(client, settings.redis_key_prefix), Refusals()
    return Limits(
        addresses=RateLimit("addresses", settings.rate_limit_addresses, storage=storage),
        strangers=RateLimit("strangers", settings.rate_limit_addresses, storage=None),
        logins=RateLimit("logins", LOGINS, storage=storage),
        checkouts=UserRate(RateLimit("checkouts", settings.rate_limit_checkouts, storage=storage), refusals),
        # Not among the refusals that are repeated unseen: whether a checkout is different, only its body says.
        different_checkouts=RateLimit("different_checkouts", settings.rate_limit_different_checkouts, storage=storage),
        operations=UserRate(RateLimit("operations", settings.rate_limit_checkouts, storage=storage), refusals),
        reads=UserRate(RateLimit("reads", settings.rate_limit_reads, storage=storage), refusals),
        waiters=waiters or Semaphore(MOST_WAITERS, share=WAITERS_OF_ONE),
        refusals=refusals,
    )
