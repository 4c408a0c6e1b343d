"""Deliveries, as the ledger knows of them: the last that was signed by our secret, and those that were not."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.models import EventSource, events, marks
from billing.process.marks import SIGNATURE_REFUSED

# Stripe repeats a refused delivery for three days, the first times within minutes.
STILL = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """When the last signed one came; how many had another's signature, when the last of them came, and why."""

    last_signed_at: datetime | None = None
    refused: int = 0
    last_refused_at: datetime | None = None
    why: str = ""


def read_deliveries(connection: sa.Connection) -> Deliveries:
    """What the ledger says."""
    newest = sa.select(events.c.received_at).where(events.c.source == EventSource.DELIVERED)
    last_signed_at = connection.scalar(newest.order_by(events.c.id.desc()).limit(1))
    row = connection.execute(sa.select(marks).where(marks.c.name == SIGNATURE_REFUSED)).first()
    return Deliveries(last_signed_at, row.times, row.last_at, row.why) if row else Deliveries(last_signed_at)


def are_refused(seen: Deliveries, *, now: datetime) -> bool:
    """Whether deliveries are refused and none was taken since: then it is the secret, and no stranger."""
    if seen.last_refused_at is None or now - seen.last_refused_at > STILL:
        return False
    return seen.last_signed_at is None or seen.last_signed_at < seen.last_refused_at
