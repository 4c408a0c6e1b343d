"""Counts of each minute, for the charts of the last hour and day; kept in the ledger, so that no restart loses them.

Each process adds what it counted for `/metrics` once a minute, in the thread of its heartbeat: the paths that count
write nothing more. The first process of a minute also notes what waits, and deletes what is older than KEPT_MINUTES.
What a process counted in the minute in which it ends is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import REGISTRY

from billing.checkout import checkout_store
from billing.database import Database, upsert
from billing.models import minute_counts
from billing.notifications import store as outbox_store
from billing.webhooks import events_store

KEPT_MINUTES = 7 * 24 * 60  # a week: the charts show a day, and what happened last night is asked on Monday
HOUR, DAY = (60, 1), (24 * 60, 10)  # minutes that a chart shows, and how many are one point of it


@dataclass(frozen=True, slots=True)
class Counted:
    """Which samples of prometheus_client are added up: of this name, whose label has one of these values."""

    sample: str
    label: str = ""
    values: frozenset[str] = frozenset()

    def takes(self, sample: str, labels: Mapping[str, str]) -> bool:
        return sample == self.sample and (not self.label or labels.get(self.label) in self.values)


_EVENTS, _STRIPE = "onelane_events_recorded_total", "onelane_stripe_requests_total"
_MESSAGES = "onelane_messages_total"
COUNTED: Mapping[str, Counted] = {
    "deliveries": Counted(_EVENTS, "result", frozenset({"recorded", "duplicate", "ignored", "rejected"})),
    "signatures_refused": Counted("onelane_signatures_refused_total"),
    "checkouts": Counted("onelane_checkouts_total"),
    "changes_delivered": Counted(_MESSAGES, "outcome", frozenset({"delivered"})),
    "changes_failed": Counted(_MESSAGES, "outcome", frozenset({"postponed", "given_up"})),
    "stripe_calls": Counted(_STRIPE),
    "stripe_429": Counted(_STRIPE, "status", frozenset({"429"})),
}
# Noted as they are at the end of the minute; a point of several minutes is the largest of them.
WAITING = ("events_pending", "events_oldest_seconds", "checkouts_oldest_seconds", "changes_untaken")


class MinuteCounts:
    """What one process has counted and not yet added to the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._added = _totals()
        self._minute: int | None = None  # the last one that was written

    def write_when_over(self, now: datetime) -> None:
        """Add to the minute that is over, once. `now` is the database's. Raises LedgerUnavailable."""
        minute = minute_of(now) - 1
        if self._minute is None:
            self._minute = minute  # the process has just begun: its first minute is not over
        if minute > self._minute:
            self.write(minute, now=now)

    def write(self, minute: int, *, now: datetime) -> None:
        """Add what was counted since the last time, and note what waits, unless another process has."""
        totals = _totals()
        rows = [
            {"minute": minute, "name": name, "value": total - self._added[name]}
            for name, total in sorted(totals.items())  # sorted: two processes lock the rows in one order
            if total > self._added[name]
        ]
        with self._database.write() as connection:
            upsert(connection, minute_counts, rows, adds=True)
            _note_waiting(connection, minute, now)
        self._added, self._minute = totals, minute


def minute_of(moment: datetime) -> int:
    return int(moment.timestamp()) // 60


def read_chart(*, database: Database, now: datetime, minutes: int, step: int) -> dict[str, Any]:
    """`at`: the seconds since 1970 at which each point of `step` minutes begins; and by name its values, oldest first.

    A point is the sum of what was counted, and the most of what waited. None where no process of ours was there.
    Raises LedgerUnavailable.
    """
    last = (minute_of(now) - 1) // step  # the minute that runs is not written yet
    first = last - minutes // step + 1
    point = minute_counts.c.minute // step
    query = (
        sa.select(point, minute_counts.c.name, sa.func.sum(minute_counts.c.value), sa.func.max(minute_counts.c.value))
        .where(minute_counts.c.minute >= first * step)
        .group_by(point, minute_counts.c.name)
    )
    found: dict[int, dict[str, int]] = {}
    with database.read() as connection:
        for number, name, total, most in connection.execute(query):
            found.setdefault(number, {})[name] = int(most if name in WAITING else total)
    points = range(first, last + 1)
    series: dict[str, Sequence[int | None]] = {
        name: [found[number].get(name, 0) if number in found else None for number in points]
        for name in (*COUNTED, *WAITING)
    }
    return {"at": [number * step * 60 for number in points], **series}


def _note_waiting(connection: sa.Connection, minute: int, now: datetime) -> None:
    noted = sa.exists().where(minute_counts.c.minute == minute, minute_counts.c.name == WAITING[0])
    if connection.scalar(sa.select(noted)):
        return
    waiting = checkout_store.waiting(connection, now=now)
    figures = (
        events_store.count_pending(connection),
        int(events_store.oldest_pending_age_seconds(connection, now)),
        int(waiting.oldest_seconds),
        outbox_store.count_untaken(connection),
    )
    rows = [{"minute": minute, "name": name, "value": value} for name, value in zip(WAITING, figures, strict=True)]
    upsert(connection, minute_counts, rows)
    connection.execute(sa.delete(minute_counts).where(minute_counts.c.minute < minute - KEPT_MINUTES))


def _totals() -> dict[str, int]:
    """What this process has counted since it began."""
    totals = dict.fromkeys(COUNTED, 0.0)
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            for name, counted in COUNTED.items():
                if counted.takes(sample.name, sample.labels):
                    totals[name] += sample.value
    return {name: int(total) for name, total in totals.items()}
