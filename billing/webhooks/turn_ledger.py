"""The ledger of turns: whether a customer's events are to be worked now, and which is next.

Which worker may is the claim's matter (`event_ledger.claim`): one at a time for a customer. Here is how often. The
first event of a customer who was not fetched for a second is worked at once. What comes while a fetch is under way, or
within a second of it, waits for the next one together; so events that trickle in cost two fetches and one more for
each second (with the time of a fetch on top) between the first and the last of them, whatever their number. Access
that a buyer waits for does not wait: the event that ends a payment page is worked as soon as nobody else holds the
customer. All of this is by the workers' clocks: where they disagree there are more fetches, and nothing else.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.models import events, projections
from billing.webhooks.event_ledger import untried, waits
from billing.webhooks.event_types import AWAITED

# 1 s from one fetch of a customer to the next: of the dozen events that a payment makes within 2 s, the first is
# worked at once and the others together, a second or two later.
REST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Rest:
    """A customer whose events wait until then, so that one fetch is for all of them."""

    customer_id: str
    until: datetime


def rests(event_row_id: int, *, now: datetime) -> sa.ColumnElement[bool]:
    """That this event's customer, for whom something waits, has just been fetched (WHK-75): for the claim to refuse.

    Not where an event waits that a buyer waits for, too (WHK-76), nor by a clock that is far ahead, or stands still.
    """
    return _fetched(event_row_id, now=now).exists()


def rest_of(connection: sa.Connection, event_row_id: int, *, now: datetime) -> Rest | None:
    """Why a claim took nothing, where that is the reason."""
    row = connection.execute(_fetched(event_row_id, now=now)).first()
    return None if row is None else Rest(row.customer_id, row.synced_at + REST)


def _fetched(event_row_id: int, *, now: datetime) -> sa.Select[tuple[str, datetime]]:
    woken, waiting = events.alias(), events.alias()
    something = sa.exists().where(waiting.c.customer_id == projections.c.customer_id, waits(now, waiting))
    awaited = something.where(untried(waiting), waiting.c.type.in_(AWAITED))
    return (
        sa.select(projections.c.customer_id, projections.c.synced_at)
        .join(woken, woken.c.customer_id == projections.c.customer_id)
        .where(
            woken.c.id == event_row_id,
            projections.c.synced_at > now - REST,
            projections.c.synced_at < now + REST,  # `now` was a moment ago, or another machine's
            projections.c.synced_at != now,
            something,
            ~awaited,
        )
    )


def next_of(connection: sa.Connection, customer_id: str, *, now: datetime, awaited: bool = False) -> int | None:
    """An event of this customer that waits for a worker, the oldest; None when none does.

    `awaited`: only one that was not tried yet and that a buyer waits for, too.
    """
    theirs = sa.select(events.c.id).where(events.c.customer_id == customer_id, waits(now))
    if awaited:
        theirs = theirs.where(untried(), events.c.type.in_(AWAITED))
    return connection.scalar(theirs.order_by(events.c.id).limit(1))
