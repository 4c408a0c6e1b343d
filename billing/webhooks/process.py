"""Processing: a wake-up comes in; due events leave done, with their customers' projections.

1 claim what is due of the next customer (LED-2, LED-40), and wake another worker first where more customers wait
2 leave out what nobody follows (WHK-11)  3 find out whose an event is that names no customer (WHK-12, WHK-70), so that
it is claimed with that customer's others  4 sync the customer once for all of them, and close them in the same
transaction (LED-6)  5 on failure give them back for later, or bury them (LED-7); and begin again.
What can be noted in the ledger is noted here and nowhere else: the task sees only a ledger that cannot be written, or
a bug.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import sqlalchemy as sa
import structlog

from billing.coordination.jobs import Reconcile, RemedyDuplicates, WorkEvents
from billing.database import run_in_transaction
from billing.duplicates import store as duplicates_store
from billing.errors import LedgerUnavailable, OnelaneError, PermanentError, StripeMisconfigured
from billing.models import EventStatus
from billing.process import context_ids
from billing.rules.backoff import is_failure
from billing.rules.ids import SESSION, SUBSCRIPTION, id_like
from billing.rules.lease import RENEW_SECONDS
from billing.stripe_gateway import StripeGateway
from billing.subscriptions import context
from billing.subscriptions.sync import sync_customer
from billing.webhooks import events_store
from billing.webhooks.claim import RETRIES, Batch, Claimed, claim
from billing.webhooks.event_types import EventAction, action_for
from billing.webhooks.events_store import Failure
from billing.webhooks.resolve_customer import find_customer

log = structlog.get_logger(__name__)

MAX_FAILURES = 20
BUSY = 10  # as after so many failures, while Stripe asks to slow down: the longest wait for that, 5 s

CompareEverybody = Callable[[sa.Connection], None]  # lets the next reconciling compare every customer


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(context.Context):
    """What every step needs."""

    compare_everybody: CompareEverybody


def work_events(ctx: Context, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Work one customer after the other until nothing is due, or until `stop`; False where a failure was noted.

    Raises LedgerUnavailable.
    """
    good = True
    while not stop():
        batch = _claim(ctx)
        if batch.due_at is not None:
            seconds = (batch.due_at - ctx.clock.now()).total_seconds() + 0.01  # past the moment, not at it
            ctx.queue.send(WorkEvents(), delay_seconds=max(seconds, 0.01))
        if not batch.events:
            return good
        if batch.more:
            ctx.queue.send(WorkEvents())
        good = _work_batch(batch, ctx) and good
    ctx.queue.send(WorkEvents())
    return good


def _claim(ctx: Context) -> Batch:
    """Step 1."""
    now = ctx.clock.now()
    return run_in_transaction(ctx.database, lambda connection: claim(connection, now=now))


def _work_batch(batch: Batch, ctx: Context) -> bool:
    """Steps 2 to 5; False where a failure was noted."""
    ids = [event.event_id for event in batch.events[: context_ids.MOST_EVENTS]]
    with structlog.contextvars.bound_contextvars(customer_id=batch.customer_id, event_ids=" ".join(ids)):
        return _work_events(batch, ctx)


def _work_events(batch: Batch, ctx: Context) -> bool:
    left = batch
    try:
        left = _without_spent(batch, ctx)
        if left.events and left.customer_id is None:
            _find_its_place(left, ctx)
        elif left.events:
            _sync(left, ctx)
    except LedgerUnavailable:
        raise  # nothing can be noted; the lease ends by itself
    except OnelaneError as error:
        _note_failure(left, error, ctx)
        return False
    except Exception as error:
        _note_failure(left, error, ctx)
        ctx.queue.send(WorkEvents())
        raise  # a bug: the events wait, and whoever watches the worker hears of it
    return left is batch  # else some were given up


def _without_spent(batch: Batch, ctx: Context) -> Batch:
    """Bury what failed too often: an event that kills its worker every time never gets to step 5."""
    spent = [event.id for event in batch.events if event.attempts >= MAX_FAILURES]
    if not spent:
        return batch
    error = f"Given up after {MAX_FAILURES} attempts that never came to an end."
    with ctx.database.write() as connection:
        events_store.finish(
            connection, spent, token=batch.token, status=EventStatus.DEAD, now=ctx.clock.now(), error=error
        )
    log.error("event.dead", event_row_ids=spent, error=error)
    return replace(batch, events=[event for event in batch.events if event.id not in spent])


def _find_its_place(batch: Batch, ctx: Context) -> None:
    """Step 3: note whose this is, so that it is claimed with the others of that customer, or close it as nobody's."""
    [event] = batch.events
    found = find_customer(event, database=ctx.database, stripe=_renewing(batch, ctx))
    with ctx.database.write() as connection:
        if found.customer_id:
            events_store.note_customer(connection, event.id, token=batch.token, customer_id=found.customer_id)
            return
        status = EventStatus.DONE if found.everybody else EventStatus.IGNORED
        if _close(connection, batch, batch.ids, status, ctx) and found.everybody:
            ctx.compare_everybody(connection)
    if found.everybody:
        log.error("events.never_made", event_id=event.event_id)
        ctx.queue.send(Reconcile())


def _sync(batch: Batch, ctx: Context) -> None:
    """Steps 2 and 4, for events of a known customer."""
    followed = [event for event in batch.events if action_for(event.type)]
    ignored = [event.id for event in batch.events if event not in followed]

    actions = {action_for(event.type) for event in followed}
    with_payment_status = bool(actions & {EventAction.REFUND, EventAction.DISPUTE, EventAction.MISSED})
    moves_money = with_payment_status or EventAction.PAYMENT in actions
    looking: list[int] = []  # incidents whose money is to be looked at again

    def close(connection: sa.Connection) -> None:
        if moves_money and batch.customer_id is not None:
            looking[:] = duplicates_store.note_money_event(connection, batch.customer_id)
        _close(connection, batch, [event.id for event in followed], EventStatus.DONE, ctx)
        _close(connection, batch, ignored, EventStatus.IGNORED, ctx)

    if batch.customer_id is None or not followed:
        with ctx.database.write() as connection:
            close(connection)
        return
    sync_customer(
        batch.customer_id,
        dataclasses.replace(ctx, stripe=_renewing(batch, ctx)),
        with_customer=bool(actions & {EventAction.CUSTOMER, EventAction.MISSED}),
        with_payment_status=with_payment_status,
        sessions=_named(SESSION, [event for event in followed if action_for(event.type) is EventAction.SESSION]),
        subscriptions=_named(SUBSCRIPTION, followed),
        then=close,
    )
    for incident_id in looking:
        ctx.queue.send(RemedyDuplicates(incident_id))


def _close(connection: sa.Connection, batch: Batch, ids: list[int], status: EventStatus, ctx: Context) -> int:
    """How many were still ours."""
    if not ids:
        return 0
    now, seconds = ctx.clock.now(), batch.seconds
    closed = events_store.finish(connection, ids, token=batch.token, status=status, now=now, seconds=seconds)
    if closed:
        log.debug("event.finished", event_row_ids=ids, status=status.value)
    return closed


def _named(pattern: re.Pattern[str], events: Sequence[Claimed]) -> set[str]:
    """The objects that these events are about, as far as they are of this kind."""
    return {id_ for event in events if (id_ := id_like(pattern, event.object_id))}


def _note_failure(batch: Batch, error: Exception, ctx: Context) -> None:
    """Step 5: back off with jitter, or bury. A key that Stripe refuses is the operator's fault, not the event's; a
    Stripe that has no time for anybody is no failure (WHK-95)."""
    now = ctx.clock.now()
    reason = error.sentence if isinstance(error, OnelaneError) else type(error).__name__
    hopeless = isinstance(error, PermanentError) and not isinstance(error, StripeMisconfigured)
    seconds = batch.seconds
    failure = Failure(now - timedelta(seconds=seconds), seconds, reason) if is_failure(error) else None
    failures = 1 if failure else 0
    dead = [event.id for event in batch.events if hopeless or event.attempts + failures >= MAX_FAILURES]
    waiting = [event for event in batch.events if event.id not in dead]
    ids = [event.id for event in waiting]
    before = max((event.attempts for event in waiting), default=0) if failures else BUSY
    delay = RETRIES.wait_seconds(before, error)
    until = now + timedelta(seconds=delay)

    def note(connection: sa.Connection) -> None:
        events_store.finish(
            connection, dead, token=batch.token, status=EventStatus.DEAD, now=now, error=reason, failure=failure
        )
        events_store.give_back(connection, ids, token=batch.token, error=reason, until=until, failure=failure)

    run_in_transaction(ctx.database, note)
    if dead:
        log.error("event.dead", event_row_ids=dead, error=reason)
    if waiting:
        log.warning("event.postponed", event_row_ids=ids, error=reason, delay_seconds=round(delay, 1))


class _Renewing:
    """Stripe, for a worker that holds events: before it asks for something, their lease is renewed (WHK-94)."""

    def __init__(self, batch: Batch, ctx: Context) -> None:
        self._batch, self._ctx, self._renewed = batch, ctx, time.monotonic()

    def __getattr__(self, name: str) -> Any:
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self._renewed = time.monotonic()
            now, (batch, ctx) = self._ctx.clock.now(), (self._batch, self._ctx)
            with ctx.database.write() as connection:
                events_store.renew(connection, batch.ids, token=batch.token, now=now)
        return getattr(self._ctx.stripe, name)


def _renewing(batch: Batch, ctx: Context) -> StripeGateway:
    return cast("StripeGateway", _Renewing(batch, ctx))
