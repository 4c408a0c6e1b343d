"""Claiming: one worker takes what is due of one customer, and holds it until its lease ends (LED-2, LED-40).

Taken is the customer with the oldest due event whom nobody holds and who need not rest. Debounce: a customer who was
not fetched for a second is worked at once. What comes while a fetch is under way, or within a second of it, waits for
the next fetch together; and while more keep coming, for up to two seconds. So the dozen events that a payment makes
within 1.8 s cost two fetches. The event that ends a payment page does not wait, since its buyer does. All of this is by
the workers' clocks: where they disagree there are more fetches, and nothing else.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from billing.models import EventStatus, events, projections
from billing.rules import lease
from billing.rules.backoff import Backoff
from billing.webhooks.event_types import AWAITED
from billing.webhooks.prepared import Prepared

# 1,000: far more than one customer ever makes in a burst; databases limit the parameters of a statement.
CLAIM_LIMIT = 1000
RETRIES = Backoff(first=timedelta(seconds=1), longest=timedelta(hours=1))  # 20 failures take about twelve hours
SOON = timedelta(seconds=10)  # up to here a delayed wake-up, beyond it the sweep
CLAIMS = 0x1A7E  # the first of two numbers of PostgreSQL's advisory locks; the second is the customer's
# 1 s from one fetch of a customer to the next; up to 2 s where one event came within the last half second while older
# ones wait: the last one then waits for half a second after it has come, no longer than before.
REST, LONGEST_REST, QUIET = timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that is ours until its lease ends."""

    id: int
    event_id: str
    type: str
    customer_id: str | None
    object_id: str | None
    attempts: int  # failed ones


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one customer that are ours until the lease ends; none where none could be taken."""

    token: str
    events: Sequence[Claimed] = ()
    more: bool = False  # another customer could be taken, too
    due_at: datetime | None = None  # where none could be taken: when one can be, if that is soon
    began: float = field(default_factory=time.monotonic)

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events]

    @property
    def seconds(self) -> float:
        """For how long it has been worked, to the millisecond."""
        return round(time.monotonic() - self.began, 3)

    @property
    def customer_id(self) -> str | None:
        """Whose they are; None for an event of whom nobody knows yet, which came alone."""
        return self.events[0].customer_id


def claim(connection: sa.Connection, *, now: datetime) -> Batch:
    """Take everything that is due of the next customer. In one transaction, which has done nothing before."""
    token = str(uuid.uuid4())
    # A row is only lost to a worker whose claim was committed since it was found, and then it is not found again.
    dialect = connection.dialect.name
    while (found := _find(dialect).run(connection, now).first()) is not None:
        own = {"customer": found.customer_id} if found.customer_id else {"row": found.id}
        taken = _take(*own, dialect).run(connection, now, token=token, **own).all()
        if taken:
            return Batch(token, [Claimed(**row._mapping) for row in taken], more=found.more)
    return Batch(token, due_at=_next_due(connection, now))


@cache
def _find(dialect: str) -> Prepared:
    """The oldest event that may be taken, whose it is, and whether another customer has one that may be taken."""

    def build(now: Any) -> sa.Executable:
        one = _takeable(now, dialect).subquery()

        def anothers(other: sa.FromClause) -> sa.ColumnElement[bool]:
            nobodys = sa.or_(one.c.customer_id.is_(None), other.c.customer_id.is_(None))
            return sa.or_(other.c.customer_id != one.c.customer_id, sa.and_(nobodys, one.c.id != other.c.id))

        other = _takeable(now, dialect, only=anothers).correlate(one).subquery()
        found = sa.select(one.c.id, one.c.customer_id, sa.exists(sa.select(other.c.id)).label("more")).limit(1)
        if dialect != "postgresql":  # SQLite lets one writer in at a time
            return found
        # Whoever takes from the same customer at this moment has the lock: neither would see what the other one takes.
        whose = sa.func.hashtext(sa.func.coalesce(one.c.customer_id, sa.cast(one.c.id, sa.Text)))
        return found.where(sa.func.pg_try_advisory_xact_lock(CLAIMS, whose))

    return Prepared(build)


def _takeable(
    now: datetime, dialect: str, *, only: Callable[[sa.FromClause], sa.ColumnElement[bool]] = lambda _event: sa.true()
) -> sa.Select[Any]:
    """Due events, oldest first, of customers whom nobody holds and who need not rest; `only` some of these.

    Each OFFSET 0 is a fence: what is asked of a customer is asked of the oldest first, and only until one may be taken;
    so is what the query around this one asks, an advisory lock. A CASE, since PostgreSQL makes a join of NOT EXISTS.
    """
    event: sa.FromClause = events.alias()
    order: Any = event.c.next_attempt_at
    if dialect == "postgresql":  # without statistics it expects few due rows, and would read and sort all of them
        names = ("id", "customer_id", "status", "next_attempt_at", "claimed_until")
        pending = sa.select(*(event.c[name] for name in names)).where(event.c.status == EventStatus.PENDING)
        event, order = pending.order_by(order).offset(0).subquery(), None
    taken = sa.or_(_is_held(event.c.customer_id, now), _rests(event, now, dialect))
    found = sa.select(event.c.id, event.c.customer_id).where(waits(event, now), only(event))
    return found.where(sa.case((taken, False), else_=True)).order_by(order).offset(0)


def _is_held(customer_id: Any, now: datetime) -> sa.ColumnElement[bool]:
    """That a worker holds events of this customer: said so that ix_events_customer_id_claimed_until answers it."""
    held = events.alias()
    theirs = sa.and_(held.c.customer_id == customer_id, held.c.claim.is_not(None))
    return sa.exists().where(theirs, ~lease.is_free(held.c.claimed_until, now=now))


def _rests(event: sa.FromClause, now: datetime, dialect: str) -> sa.ColumnElement[bool]:
    """That this event's customer has just been fetched, and no buyer waits (WHK-75, WHK-76).

    Not by a clock that is ahead, or stands still. First what few customers are: the rest is not asked of others.
    Scalar subqueries, since PostgreSQL might read all projections for EXISTS.
    """
    waiting, fetched = events.alias(), projections.c.synced_at

    def was_fetched(since: Any) -> sa.ColumnElement[bool]:
        credible = sa.and_(fetched > since, fetched < now + REST, fetched != now)
        return sa.select(credible).where(projections.c.customer_id == event.c.customer_id).scalar_subquery()

    def one_waits(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        theirs = _waits_of(waiting, event.c.customer_id, now, dialect)
        return sa.exists(sa.select(waiting.c.id).where(theirs, *conditions).correlate_except(waiting))

    came = waiting.c.received_at
    # A CASE, so that no index of types is asked: it holds every purchase there ever was.
    awaited = sa.case((waiting.c.type.in_(AWAITED), True))
    keep_coming = sa.and_(one_waits(came > now - QUIET), one_waits(came <= now - QUIET))
    return sa.and_(
        was_fetched(now - LONGEST_REST),
        sa.or_(was_fetched(now - REST), keep_coming),
        ~one_waits(untried(waiting), awaited),
    )


@cache
def _take(whose: str, dialect: str) -> Prepared:
    """Compare-and-set on all of a customer's, or on a row that is nobody's still. A lapsed lease was a failure."""

    def build(now: Any) -> sa.Executable:
        if whose == "row":
            chosen = sa.and_(events.c.id == sa.bindparam("row"), events.c.customer_id.is_(None))
        else:
            event, customer = events.alias(), sa.bindparam("customer", type_=events.c.customer_id.type)
            own = sa.select(event.c.id).where(_waits_of(event, customer, now, dialect), ~_is_held(customer, now))
            chosen = events.c.id.in_(own.order_by(event.c.id).limit(CLAIM_LIMIT))
        lapsed = sa.case((events.c.claim.is_(None), 0), else_=1)
        values = {
            "claim": sa.bindparam("token"),
            "claimed_until": lease.ends_at(now),
            "attempts": events.c.attempts + lapsed,
        }
        # Asked twice: PostgreSQL looks again at a row that another worker has just changed, but not at the subquery.
        # A CASE, so that it looks for the rows by their ids.
        still = sa.case((waits(events, now), True))
        update = sa.update(events).where(chosen, still).values(values)
        return update.returning(*(events.c[name] for name in Claimed.__slots__))

    return Prepared(build)


def _next_due(connection: sa.Connection, now: datetime) -> datetime | None:
    """When the next event is due that waits for a retry or for its customer's rest, if that is soon."""
    retry = _RETRY.run(connection, now).scalar()
    ends = [
        # `newest` is by a web's clock, which may be ahead.
        max(row.synced_at + REST, min(row.newest + QUIET, row.synced_at + LONGEST_REST))
        for row in _RESTING.run(connection, now)
    ]
    return min([retry, *ends] if retry else ends, default=None)


def _first_retry(now: Any) -> sa.Executable:
    later = (events.c.next_attempt_at > now, events.c.next_attempt_at <= now + SOON)
    return sa.select(sa.func.min(events.c.next_attempt_at)).where(events.c.status == EventStatus.PENDING, *later)


def _resting(now: Any) -> sa.Executable:
    """When each customer who may be at rest was fetched, and when the newest event came that waits for that."""
    fetched = projections.c.synced_at
    return (
        sa.select(fetched, sa.func.max(events.c.received_at).label("newest"))
        .join(projections, projections.c.customer_id == events.c.customer_id)
        .where(waits(events, now), fetched > now - LONGEST_REST, fetched < now + REST, fetched != now)
        .group_by(projections.c.customer_id, fetched)
    )


def any_due(connection: sa.Connection, *, now: datetime) -> bool:
    """Whether an event's time has come and nobody holds it: for the sweep."""
    return connection.scalar(sa.select(events.c.id).where(waits(events, now)).limit(1)) is not None


def waits(event: sa.FromClause, now: datetime) -> sa.ColumnElement[bool]:
    """That the event is due, and nobody's."""
    return sa.and_(event.c.status == EventStatus.PENDING, _is_free(event, now))


def _waits_of(event: sa.FromClause, customer_id: Any, now: datetime, dialect: str) -> sa.ColumnElement[bool]:
    """The same of this customer's events: said so that ix_events_customer_id_status answers it.

    Where PostgreSQL expects few pending events, it would read all of them, once for each event that is looked at.
    """
    theirs = sa.and_(event.c.customer_id == customer_id, event.c.status == EventStatus.PENDING)
    if dialect == "postgresql":  # in this order they are no other index's
        place, own = sa.tuple_(event.c.customer_id, event.c.status), sa.tuple_(customer_id, EventStatus.PENDING)
        theirs = sa.and_(event.c.customer_id == customer_id, place >= own, place <= own)
    return sa.and_(theirs, _is_free(event, now))


def _is_free(event: sa.FromClause, now: datetime) -> sa.ColumnElement[bool]:
    due = RETRIES.is_due(event.c.next_attempt_at, now=now)
    return sa.and_(due, lease.is_free(event.c.claimed_until, now=now))


def untried(event: sa.FromClause = events) -> sa.ColumnElement[bool]:
    """That no attempt has failed, nor was one put off because Stripe asked to slow down."""
    return sa.and_(event.c.attempts == 0, event.c.error.is_(None))


_RETRY, _RESTING = Prepared(_first_retry), Prepared(_resting)
