"""Processing: a wake-up with a row id comes in; the customer's pending events leave done, with their projection.

1 claim all of the customer's due events (LED-2), unless another worker holds some or the customer was fetched just
now: who is done wakes the next one, and what comes within a second of a fetch is worked together after it (WHK-74 to
WHK-77)  2 leave out what nobody follows (WHK-11)  3 find out whose an event
is that names no customer (WHK-12, WHK-70), and begin again with those of that customer  4 sync the customer once for
all of them, and close them in the same transaction (LED-6)  5 on failure give them back for later, or bury them
(LED-7). What can be noted in the ledger is noted here and nowhere else: the task sees only a ledger that cannot be
written, or a bug.
"""

import random
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.clock import Clock
from billing.database import Database, run_in_transaction
from billing.errors import (
    LedgerUnavailable,
    OnelaneError,
    PermanentError,
    StripeMisconfigured,
    StripeUnclear,
)
from billing.ids import SESSION, SUBSCRIPTION, id_like
from billing.jobs import RECONCILE_ROW, ProcessEvent, Reconcile, RemedyDuplicates
from billing.maintenance.reconcile import begin_with_everybody
from billing.models import EventStatus
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.stripe_gateway.pace import while_waiting
from billing.subscriptions.sync import sync_customer
from billing.webhooks import debounce, events_store
from billing.webhooks.debounce import Rest
from billing.webhooks.event_types import EventAction, action_for
from billing.webhooks.events_store import Claimed
from billing.webhooks.holding import LEASE, Holding, is_scarcity
from billing.webhooks.resolve_customer import find_customer

__all__ = ["LEASE", "process_event", "sync_customer"]

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 20  # with the backoff below about twelve hours
MAX_BACKOFF_SECONDS = events_store.LONGEST_BACKOFF.total_seconds()
# 5 s, half of it by chance, where Stripe asked to slow down: the process' pace grows slower, so the waits need not.
SCARCE_SECONDS = 5.0
SOON_SECONDS = 10  # up to here a delayed message, beyond it the sweep


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one customer that are ours until the lease ends."""

    token: str
    events: Sequence[Claimed]
    rest: Rest | None = None  # nothing was taken, since nothing is to be before that

    @property
    def ids(self) -> list[int]:
        """The rows."""
        return [event.id for event in self.events]

    @property
    def customer_id(self) -> str | None:
        """Whose they are; None for an event of whom nobody knows yet, which came alone."""
        return self.events[0].customer_id


def process_event(
    event_row_id: int,
    *,
    database: Database,
    stripe: StripeGateway,
    queue: Queue,
    clock: Clock,
    catalog: Catalog,
) -> None:
    """Work this event and everything else that is due for its customer. Raises LedgerUnavailable."""
    batch = _claim(event_row_id, database=database, clock=clock)
    if batch.rest is not None:
        _come_back(event_row_id, batch.rest, queue=queue, clock=clock)
    if not batch.events:
        return  # done already, not due, or somebody else is at it
    again = False
    holding = Holding(batch.token, batch.ids, database=database, clock=clock)
    try:
        with while_waiting(holding.keep):
            if batch.customer_id is None:
                again = _find_its_place(batch, holding, database=database, stripe=stripe, queue=queue, clock=clock)
            else:
                _work(batch, database=database, stripe=stripe, queue=queue, clock=clock, catalog=catalog)
                _wake_next(batch, database=database, queue=queue, clock=clock)
    except LedgerUnavailable:
        raise  # nothing can be noted; the lease ends by itself
    except OnelaneError as error:
        _note_failure(batch, holding, error, database=database, queue=queue, clock=clock)
    except Exception as error:
        _note_failure(batch, holding, error, database=database, queue=queue, clock=clock)
        raise  # a bug: the events wait, and whoever watches the worker hears of it
    if again:
        process_event(event_row_id, database=database, stripe=stripe, queue=queue, clock=clock, catalog=catalog)


def _claim(event_row_id: int, *, database: Database, clock: Clock) -> Batch:
    """Step 1, and bury what was claimed too often: an event that kills its worker never gets to step 5."""
    token, now = str(uuid.uuid4()), clock.now()

    def claim(connection: sa.Connection) -> Batch:
        rests = debounce.rests(event_row_id, now=now)
        claimed = events_store.claim(connection, event_row_id, token=token, now=now, until=now + LEASE, unless=rests)
        if not claimed:
            return Batch(token, [], debounce.rest_of(connection, event_row_id, now=now))
        spent = [event.id for event in claimed if event.attempts > MAX_ATTEMPTS]
        if spent:
            error = f"Given up after {MAX_ATTEMPTS} attempts that never came to an end."
            events_store.finish(connection, spent, token=token, status=EventStatus.DEAD, now=now, error=error)
            log.error("event.dead", event_row_ids=spent, error=error)
        return Batch(token, [event for event in claimed if event.id not in spent])

    return run_in_transaction(database, claim)


def _come_back(event_row_id: int, rest: Rest, *, queue: Queue, clock: Clock) -> None:
    """Look again when the customer has rested, for whatever has come until then; no thread waits for that."""
    seconds = (rest.until - clock.now()).total_seconds() + 0.01  # past the moment, not at it
    queue.send(ProcessEvent(event_row_id, about=f"{rest.customer_id}:later"), delay_seconds=max(seconds, 0.01))


def _wake_next(batch: Batch, *, database: Database, queue: Queue, clock: Clock, awaited: bool = False) -> None:
    """After the commit: whoever was woken for what came since the claim has found the customer held, and gone."""
    if batch.customer_id is None:
        return
    with database.read() as connection:
        waiting = debounce.next_of(connection, batch.customer_id, now=clock.now(), awaited=awaited)
    if waiting is not None:
        queue.send(ProcessEvent(waiting, about=batch.customer_id))


def _find_its_place(
    batch: Batch, holding: Holding, *, database: Database, stripe: StripeGateway, queue: Queue, clock: Clock
) -> bool:
    """Step 3: whether it is known now whose this is, so that it can be claimed with the others of that customer."""
    [event] = batch.events
    found = find_customer(event, database=database, stripe=stripe)
    counted = holding.end()
    with database.write() as connection:
        if found.customer_id:
            return events_store.note_customer(
                connection, event.id, token=batch.token, customer_id=found.customer_id, counted=counted
            )
        status = EventStatus.DONE if found.everybody else EventStatus.IGNORED
        if _close(connection, batch, batch.ids, status, clock=clock) and found.everybody:
            begin_with_everybody(connection, clock=clock)
    if found.everybody:
        log.error("events.never_made", event_id=event.event_id)
        queue.send(Reconcile(RECONCILE_ROW))
    return False


def _work(
    batch: Batch, *, database: Database, stripe: StripeGateway, queue: Queue, clock: Clock, catalog: Catalog
) -> None:
    """Steps 2 and 4, for events of a known customer."""
    followed = [event for event in batch.events if action_for(event.type)]
    ignored = [event.id for event in batch.events if event not in followed]

    def close(connection: sa.Connection) -> None:
        _close(connection, batch, [event.id for event in followed], EventStatus.DONE, clock=clock)
        _close(connection, batch, ignored, EventStatus.IGNORED, clock=clock)

    customer_id = batch.customer_id
    if customer_id is None or not followed:
        with database.write() as connection:
            close(connection)
        return
    actions = {action_for(event.type) for event in followed}
    sync_customer(
        customer_id,
        database=database,
        stripe=stripe,
        clock=clock,
        catalog=catalog,
        with_customer=bool(actions & {EventAction.CUSTOMER, EventAction.MISSED}),
        with_payment_status=bool(actions & {EventAction.REFUND, EventAction.DISPUTE, EventAction.MISSED}),
        sessions=_named(SESSION, [event for event in followed if action_for(event.type) is EventAction.SESSION]),
        subscriptions=_named(SUBSCRIPTION, followed),
        then=close,
        on_duplicates=lambda incident_id: queue.send(RemedyDuplicates(incident_id)),
    )


def _close(connection: sa.Connection, batch: Batch, ids: list[int], status: EventStatus, *, clock: Clock) -> int:
    """How many were still ours."""
    if not ids:
        return 0
    closed = events_store.finish(connection, ids, token=batch.token, status=status, now=clock.now())
    if closed:
        log.info("event.finished", event_row_ids=ids, status=status.value)
    return closed


def _named(pattern: re.Pattern[str], events: Sequence[Claimed]) -> set[str]:
    """The objects that these events are about, as far as they are of this kind."""
    return {id_ for event in events if (id_ := id_like(pattern, event.object_id))}


def _note_failure(
    batch: Batch, holding: Holding, error: Exception, *, database: Database, queue: Queue, clock: Clock
) -> None:
    """Step 5: back off with jitter, or bury. A key that Stripe refuses is the operator's fault, not the event's; what
    waited for Stripe's budget was no attempt (WHK-95)."""
    now = clock.now()
    reason = error.sentence if isinstance(error, OnelaneError) else type(error).__name__
    hopeless = isinstance(error, PermanentError) and not isinstance(error, StripeMisconfigured)
    scarce = is_scarcity(error)
    dead = [event.id for event in batch.events if hopeless or (event.attempts >= MAX_ATTEMPTS and not scarce)]
    waiting = [event for event in batch.events if event.id not in dead]
    delay = _delay(max((event.attempts for event in waiting), default=1), error)
    ids = [event.id for event in waiting]
    until = now + timedelta(seconds=delay)
    more = (0 if scarce else 1) - holding.end()

    def note(connection: sa.Connection) -> None:
        events_store.finish(connection, dead, token=batch.token, status=EventStatus.DEAD, now=now, error=reason)
        events_store.give_back(connection, ids, token=batch.token, error=reason, until=until, attempts=more)

    run_in_transaction(database, note)
    if dead:
        log.error("event.dead", event_row_ids=dead, error=reason)
    soon = bool(waiting) and delay <= SOON_SECONDS
    if waiting:
        log.warning("event.postponed", event_row_ids=ids, error=reason, delay_seconds=round(delay, 1))
        if soon:
            # A name of this turn's own: any other would be kept back by a wake-up that comes before the row's time.
            about = f"{ids[0]}:retry:{batch.token}"
            queue.send(ProcessEvent(ids[0], about=about), delay_seconds=delay + 0.5)  # past the row's own time
    # Where that comes soon, it is for whatever came meanwhile, too: but a buyer's first attempt does not wait for it.
    _wake_next(batch, database=database, queue=queue, clock=clock, awaited=soon)


def _delay(attempts: int, error: Exception) -> float:
    """1, 2, 4 ... 3600 s, half of it by chance so that a thousand events do not come back as one; never earlier than
    Stripe asked for."""
    longest = SCARCE_SECONDS if is_scarcity(error) else float(min(2 ** (attempts - 1), MAX_BACKOFF_SECONDS))
    asked = (error.retry_after or 0.0) if isinstance(error, StripeUnclear) else 0.0
    return max(min(asked, MAX_BACKOFF_SECONDS), random.uniform(longest / 2, longest))  # noqa: S311 - spread, not secrecy
