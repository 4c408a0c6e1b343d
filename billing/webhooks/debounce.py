"""The ledger of turns: whether a customer's events are to be worked now, and which is next.

Which worker may is the claim's matter (`event_ledger.claim`): one at a time for a customer. Here is how often. The
first event of a customer who was not fetched for a second is worked at once. What comes while a fetch is under way, or
within a second of it, waits for the next one together; and while more keep coming, for up to two seconds. So the dozen
that a payment makes within 1.8 s cost two fetches, and events that trickle in for longer two and one more for each
second (with the time of a fetch on top) between the first and the last of them, at most, whatever their number. Access
that a buyer waits for does not wait: the event that ends a payment page is worked as soon as nobody else holds the
customer. All of this is by the workers' clocks: where they disagree there are more fetches, and nothing else.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.models import events, projections
from billing.webhooks.event_types import AWAITED
from billing.webhooks.events_store import untried, waits

# 1 s from one fetch of a customer to the next: of the dozen events that a payment makes within 2 s, the first is
# worked at once and the others together, a second or two later.
REST = timedelta(seconds=1)
# Longer where one came within the last half second while older ones wait: the last one waits for half a second after
# it has come, no longer than before; those in between for up to two seconds instead of one.
LONGEST_REST, QUIET = timedelta(seconds=2), timedelta(seconds=0.5)


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
    if row is None:
        return None
    quiet = min(row.newest + QUIET, row.synced_at + LONGEST_REST)  # `newest` by a web's clock, which may be ahead
    return Rest(row.customer_id, max(row.synced_at + REST, quiet))


def _fetched(event_row_id: int, *, now: datetime) -> sa.Select[tuple[str, datetime, datetime]]:
    woken, waiting = events.alias(), events.alias()
    theirs = (waiting.c.customer_id == projections.c.customer_id, waits(now, waiting))
    something = sa.exists().where(*theirs)
    awaited = something.where(untried(waiting), waiting.c.type.in_(AWAITED))
    newest = sa.select(sa.func.max(waiting.c.received_at)).where(*theirs).scalar_subquery()
    keep_coming = sa.and_(newest > now - QUIET, something.where(waiting.c.received_at <= now - QUIET))
    fetched = projections.c.synced_at
    return (
        sa.select(projections.c.customer_id, projections.c.synced_at, newest.label("newest"))
        .join(woken, woken.c.customer_id == projections.c.customer_id)
        .where(
            woken.c.id == event_row_id,
            sa.or_(fetched > now - REST, sa.and_(fetched > now - LONGEST_REST, keep_coming)),
            fetched < now + REST,  # `now` was a moment ago, or another machine's
            fetched != now,
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
