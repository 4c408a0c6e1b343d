"""Sync: bring one customer's projection to what Stripe says now.

1 read the generation and what was written with it  2 fetch, with no transaction open  3 in one transaction: raise the
generation if it is still what was read (else fetch again), write the rows, the outbox and the incident, and let the
caller close its events.
So an old fetch never overwrites a newer one (LED-5), and no event is closed without the rows that it asked for (LED-6).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.coordination.jobs import Notify, RemedyDuplicates
from billing.customers import due_syncs
from billing.customers.store import Owner, find_owner
from billing.database import run_in_transaction
from billing.errors import StaleWrite
from billing.subscriptions import product_trial, projection_store
from billing.subscriptions.access import decide_access, describe, describe_access
from billing.subscriptions.client_data import read_client_data
from billing.subscriptions.context import Context
from billing.subscriptions.fetch import Snapshot, clock_of, fetch
from billing.subscriptions.invoices import Money
from billing.subscriptions.payment_status import fetch_money
from billing.subscriptions.projection import (
    Change,
    Subscription,
    differences,
    is_live,
    plan_prices,
    project,
    schedule_of,
)
from billing.subscriptions.troubles import DUPLICATE, find_troubles

log = structlog.get_logger(__name__)

# 5: each lost round means that another worker has just written a newer fetch.
ROUNDS = 5


def sync_customer(
    customer_id: str,
    ctx: Context,
    *,
    with_customer: bool = True,
    with_payment_status: bool = False,
    sessions: Iterable[str] = (),
    subscriptions: Iterable[str] = (),
    then: Callable[[sa.Connection], None] | None = None,
    wakes_remedy: bool = True,
) -> Sequence[Change]:
    """Fetch the customer, write the projection, and return the changes.

    `sessions` and `subscriptions` are ids that events named. `with_payment_status` fetches disputes and refunds, too.
    `then` runs inside the transaction that writes. After its commit a worker is woken for the changes in the outbox
    (NTF-9), and for the remedy of an open incident about duplicates. Raises the gateway's errors, and StaleWrite when
    others kept writing for ROUNDS rounds.
    """
    for _ in range(ROUNDS):
        with ctx.database.read() as connection:
            generation, before = projection_store.read_projection(connection, customer_id)
        fetched = _fetch(
            customer_id,
            before,
            ctx,
            asked=with_payment_status,
            with_customer=with_customer,
            sessions=sessions,
            subscriptions=subscriptions,
        )
        written = run_in_transaction(ctx.database, partial(_write, fetched, generation=generation, then=then))
        if written is None:
            continue
        changes, noted, incident_id = written
        tell = log.info if changes else log.debug
        tell("customer.synced", customer_id=customer_id, changes=[change.kind for change in changes])
        if noted:
            ctx.queue.send(Notify())
        if incident_id is not None and wakes_remedy:
            ctx.queue.send(RemedyDuplicates(incident_id))
        return changes
    raise StaleWrite("Other workers kept syncing this customer. Try again in a moment.")


def compare_customer(customer_id: str, ctx: Context) -> Sequence[Change]:
    """The changes that a sync would write now; nothing is written. Raises the gateway's errors."""
    with ctx.database.read() as connection:
        before = projection_store.read_subscriptions(connection, customer_id)
    fetched = _fetch(customer_id, before, ctx, asked=ctx.catalog.access.depends_on_payment, with_customer=False)
    return differences(before, fetched.rows())


@dataclass(frozen=True, slots=True)
class _Fetched:
    """One fetch: whose, what the ledger had before, Stripe's answers, and when they came."""

    customer_id: str
    before: Sequence[Subscription]
    snapshot: Snapshot
    money: Mapping[str, Money]
    catalog: Catalog
    now: datetime

    def rows(self) -> list[Subscription]:
        known = {row.subscription_id: row for row in self.before}
        return [
            project(
                subscription,
                customer_id=self.customer_id,
                catalog=self.catalog,
                schedule=self.snapshot.schedules.get(schedule_of(subscription) or ""),
                before=known.get(str(subscription["id"])),
                now=self.now,
                money=self.money.get(str(subscription["id"])),
                frozen_at=self.snapshot.clocks.get(clock_of(subscription) or ""),
            )
            for subscription in self.snapshot.subscriptions
        ]


def _fetch(
    customer_id: str,
    before: Sequence[Subscription],
    ctx: Context,
    *,
    asked: bool,
    with_customer: bool,
    sessions: Iterable[str] = (),
    subscriptions: Iterable[str] = (),
) -> _Fetched:
    """Step 2. Disputes and refunds are fetched where `asked`, and while a row says so: that may be over."""
    live = [row.subscription_id for row in before if is_live(row.status)]
    snapshot = fetch(
        customer_id,
        stripe=ctx.stripe,
        with_customer=with_customer,
        sessions=sessions,
        expected=[*subscriptions, *live],
    )
    money = fetch_money(
        snapshot.subscriptions,
        with_disputes=asked or any(row.disputed or row.refunded for row in before),
        catalog=ctx.catalog,
        stripe=ctx.stripe,
        at=partial(snapshot.time_of, now=ctx.clock.now()),
    )
    return _Fetched(customer_id, before, snapshot, money, ctx.catalog, ctx.clock.now())


def _write(
    fetched: _Fetched,
    connection: sa.Connection,
    *,
    generation: int | None,
    then: Callable[[sa.Connection], None] | None,
) -> tuple[Sequence[Change], int, int | None] | None:
    """Step 3: rows, changes, sessions and incidents; None when another sync was written since the generation was read.

    Otherwise the subscriptions are still as they were read with it: only a sync writes them, and it raises it first.
    The changes, how many were noted in the outbox, and the id of the open incident about duplicates.
    """
    customer_id, before, snapshot, now = fetched.customer_id, fetched.before, fetched.snapshot, fetched.now
    if not projection_store.advance(connection, customer_id, generation=generation, deleted=snapshot.deleted, now=now):
        return None
    after = fetched.rows()
    projection_store.replace_subscriptions(connection, before, after)
    changes = news = differences(before, after)
    owner = find_owner(connection, customer_id)
    if owner and (owner.sync_due or owner.sync_asked):
        due_syncs.note_synced(connection, customer_id)
    if owner and owner.sync_due:
        # What the application was told of these before named no user (SUB-71).
        news = differences([row for row in before if not is_live(row.status)], after)
    noted = _note(connection, fetched, owner, news, after) if news else 0
    for session_id, outcome in snapshot.sessions.items():
        projection_store.note_session(connection, session_id, outcome)
    incident_id = _note_incidents(connection, fetched, owner, after)
    if then is not None:
        then(connection)
    return changes, noted, incident_id


def _note(
    connection: sa.Connection,
    fetched: _Fetched,
    owner: Owner | None,
    changes: Sequence[Change],
    rows: Sequence[Subscription],
) -> int:
    """Write the changes to the outbox, each with its user and their access now; none for a user who was erased.

    How many were written.
    """
    if owner and owner.is_erased:
        return 0
    customer_id, catalog, now = fetched.customer_id, fetched.catalog, fetched.now
    user_id = owner.user_id if owner else None
    trial = product_trial.read(connection, user_id, catalog.product) if user_id else None
    ours = [row for row in rows if row.product == catalog.product]
    access = decide_access(ours, now, catalog.access, trial_ends_at=trial.ends_at if trial else None)
    about = {"user_id": user_id, "customer_id": customer_id, "access": describe_access(access)}
    said = read_client_data(connection, user_id, (change.subject.nonce for change in changes))
    for change in changes:
        payload = {**about, "subscription": describe(change.subject, said.get(change.subject.nonce))}
        projection_store.note_change(connection, customer_id=customer_id, kind=change.kind, payload=payload, now=now)
    return len(changes)


def _note_incidents(
    connection: sa.Connection, fetched: _Fetched, owner: Owner | None, rows: Iterable[Subscription]
) -> int | None:
    """Keep the customer's incidents as their subscriptions are; the id of the open one about duplicates."""
    product, customer_id = fetched.catalog.product, fetched.customer_id
    found = find_troubles(
        rows,
        product=product,
        is_owned=owner is not None,
        is_erased=owner is not None and owner.is_erased,
        plans={str(one["id"]): plan_prices(one, fetched.catalog) for one in fetched.snapshot.subscriptions},
    )
    ids, opened = projection_store.note_troubles(
        connection, found, customer_id=customer_id, product=product, now=fetched.now
    )
    for trouble in opened:
        log.error(
            "incident.opened",
            kind=trouble.kind,
            customer_id=customer_id,
            subscriptions=list(trouble.subscriptions),
            next_step=trouble.next_step,
        )
    return ids.get(DUPLICATE)
