"""Holding: events that are ours until their lease ends, which is renewed for as long as their worker gets on.

Nobody beats for a worker: the lease is renewed by the very threads that wait for Stripe's budget and send its requests
(`pace.while_waiting`), so that a dead, frozen or hanging one loses it like before. A turn that is waiting for the
budget is no attempt meanwhile, and is one again when its request is sent: killed in the wait, or given up because
Stripe asked to slow down, it does not bring its events any nearer to being buried (WHK-94, WHK-95).
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import sqlalchemy as sa
import structlog

from billing.clock import Clock
from billing.database import Database, run_in_transaction
from billing.errors import LedgerUnavailable, StripeUnclear
from billing.webhooks import events_store

log = structlog.get_logger(__name__)

# 25 s: with the sweep's 30 s, a killed worker's events are worked again within a minute. The longest time without a
# look at it is a call that does not answer, 10 s. An answer that takes longer harms nothing: another worker takes the
# same events, and the generation sorts out who writes.
LEASE = timedelta(seconds=25)
RENEW_SECONDS = 5.0


class Holding:
    """What one worker has claimed. Its threads may call `keep` at once."""

    def __init__(
        self,
        token: str,
        ids: Sequence[int],
        *,
        database: Database,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token, self._ids = token, ids
        self._database, self._clock, self._monotonic = database, clock, monotonic
        self._renewed = monotonic()
        self._over = False
        self._guard = threading.Lock()
        self._counted = 1  # as an attempt, in the ledger; the claim did

    def keep(self, *, waiting: bool) -> None:
        """Renew the lease if that is time, `waiting` for the budget or about to send a request. Raises nothing."""
        with self._guard:
            late = self._monotonic() - self._renewed >= RENEW_SECONDS
            if self._over or not (late or (not waiting and not self._counted)):
                return
            counted = 0 if waiting else 1
            until, more = self._clock.now() + LEASE, counted - self._counted

            def renew(connection: sa.Connection) -> int:
                return events_store.renew(connection, self._ids, token=self._token, until=until, attempts=more)

            try:
                self._over = run_in_transaction(self._database, renew) == 0
            except LedgerUnavailable:
                return  # the next look may get through; else the lease ends by itself
            self._renewed, self._counted = self._monotonic(), counted
            if self._over:
                log.warning("lease.lost", event_row_ids=self._ids)

    def end(self) -> int:
        """Renew no more: a read that went on beside one that failed may still come to it. How many attempts it is."""
        with self._guard:
            self._over = True
            return self._counted


def is_scarcity(error: Exception) -> bool:
    """Whether Stripe said to slow down: that is about all who ask, and not about these events."""
    return isinstance(error, StripeUnclear) and error.status == 429
