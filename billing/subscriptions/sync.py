"""Sync: bring one customer's projection to what Stripe says now.

1 read the generation and what was written with it  2 fetch, with no transaction open  3 in one transaction: raise the
generation if it is still what was read (else fetch again), write the rows, the outbox and the incident, and let the
caller close its events.
So an old fetch never overwrites a newer one (LED-5), and no event is closed without the rows that it asked for (LED-6).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
        snapshot = fetch(
            customer_id,
            stripe=ctx.stripe,
            with_customer=with_customer,
            sessions=sessions,
            expected=[*subscriptions, *_live(before)],
        )
        money = _money(snapshot, before, ctx, asked=with_payment_status)
        read = (generation, before)
        write = partial(
            _write_all, customer_id, snapshot, money, read, catalog=ctx.catalog, now=ctx.clock.now(), then=then
        )
        written = run_in_transaction(ctx.database, write)
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
    snapshot = fetch(customer_id, stripe=ctx.stripe, with_customer=False, sessions=(), expected=_live(before))
    asked = ctx.catalog.access.depends_on_payment
    money = _money(snapshot, before, ctx, asked=asked)
    return differences(before, _project(customer_id, snapshot, before, money, catalog=ctx.catalog, now=ctx.clock.now()))


def _money(snapshot: Snapshot, before: Sequence[Subscription], ctx: Context, *, asked: bool) -> Mapping[str, Money]:
    """Disputes and refunds are fetched on request, and while a row says so: that may be over."""
    with_disputes = asked or any(row.disputed or row.refunded for row in before)
    at = partial(snapshot.time_of, now=ctx.clock.now())
    return fetch_money(
        snapshot.subscriptions, with_disputes=with_disputes, catalog=ctx.catalog, stripe=ctx.stripe, at=at
    )


def _live(rows: Iterable[Subscription]) -> list[str]:
    return [row.subscription_id for row in rows if is_live(row.status)]


def _write_all(
    customer_id: str,
    snapshot: Snapshot,
    money: Mapping[str, Money],
    read: tuple[int | None, Sequence[Subscription]],
    connection: sa.Connection,
    *,
    catalog: Catalog,
    now: datetime,
    then: Callable[[sa.Connection], None] | None,
) -> tuple[Sequence[Change], int, int | None] | None:
    """Step 3; None when another sync was written since the generation was read.

    Otherwise the subscriptions are still as they were read with it: only a sync writes them, and it raises it first.
    """
    generation, before = read
    if not projection_store.advance(connection, customer_id, generation=generation, deleted=snapshot.deleted, now=now):
        return None
    written = _write(connection, customer_id, snapshot, money, before, catalog=catalog, now=now)
    if then is not None:
        then(connection)
    return written


def _write(
    connection: sa.Connection,
    customer_id: str,
    snapshot: Snapshot,
    money: Mapping[str, Money],
    before: Sequence[Subscription],
    *,
    catalog: Catalog,
    now: datetime,
) -> tuple[Sequence[Change], int, int | None]:
    """Step 3, after the gate: rows, changes, sessions and the incident.

    The changes, how many were noted in the outbox, and the incident's id.
    """
    after = _project(customer_id, snapshot, before, money, catalog=catalog, now=now)
    projection_store.replace_subscriptions(connection, before, after)
    changes = news = differences(before, after)
    owner = find_owner(connection, customer_id)
    if owner and (owner.sync_due or owner.sync_asked):
        due_syncs.note_synced(connection, customer_id)
    if owner and owner.sync_due:
        # What the application was told of these before named no user (SUB-71).
        news = differences([row for row in before if not is_live(row.status)], after)
    noted = 0
    if news:
        ours = [row for row in after if row.product == catalog.product]
        noted = _note(connection, customer_id, owner, news, ours, catalog=catalog, now=now)
    for session_id, outcome in snapshot.sessions.items():
        projection_store.note_session(connection, session_id, outcome)
    plans = {str(one["id"]): plan_prices(one, catalog) for one in snapshot.subscriptions}
    return changes, noted, _note_incidents(connection, customer_id, owner, after, plans, catalog=catalog, now=now)


def _project(
    customer_id: str,
    snapshot: Snapshot,
    before: Sequence[Subscription],
    money: Mapping[str, Money],
    *,
    catalog: Catalog,
    now: datetime,
) -> list[Subscription]:
    known = {row.subscription_id: row for row in before}
    return [
        project(
            subscription,
            customer_id=customer_id,
            catalog=catalog,
            schedule=snapshot.schedules.get(schedule_of(subscription) or ""),
            before=known.get(str(subscription["id"])),
            now=now,
            money=money.get(str(subscription["id"])),
            frozen_at=snapshot.clocks.get(clock_of(subscription) or ""),
        )
        for subscription in snapshot.subscriptions
    ]


def _note(
    connection: sa.Connection,
    customer_id: str,
    owner: Owner | None,
    changes: Sequence[Change],
    ours: Sequence[Subscription],
    *,
    catalog: Catalog,
    now: datetime,
) -> int:
    """Write the changes to the outbox, each with its user and their access now; none for a user who was erased.

    How many were written.
    """
    if owner and owner.is_erased:
        return 0
    user_id = owner.user_id if owner else None
    trial = product_trial.read(connection, user_id, catalog.product) if user_id else None
    access = decide_access(ours, now, catalog.access, trial_ends_at=trial.ends_at if trial else None)
    about = {"user_id": user_id, "customer_id": customer_id, "access": describe_access(access)}
    changes = list(changes)
    said = read_client_data(connection, user_id, (change.subject.nonce for change in changes))
    for change in changes:
        payload = {**about, "subscription": describe(change.subject, said.get(change.subject.nonce))}
        projection_store.note_change(connection, customer_id=customer_id, kind=change.kind, payload=payload, now=now)
    return len(changes)


def _note_incidents(
    connection: sa.Connection,
    customer_id: str,
    owner: Owner | None,
    rows: Iterable[Subscription],
    plans: Mapping[str, Sequence[str]],
    *,
    catalog: Catalog,
    now: datetime,
) -> int | None:
    """Keep the customer's incidents as their subscriptions are; the id of the open one about duplicates."""
    is_erased = owner is not None and owner.is_erased
    found = find_troubles(rows, product=catalog.product, is_owned=owner is not None, is_erased=is_erased, plans=plans)
    ids, opened = projection_store.note_troubles(
        connection, found, customer_id=customer_id, product=catalog.product, now=now
    )
    for trouble in opened:
        subscriptions, next_step = list(trouble.subscriptions), trouble.next_step
        log.error(
            "incident.opened",
            kind=trouble.kind,
            customer_id=customer_id,
            subscriptions=subscriptions,
            next_step=next_step,
        )
    return ids.get(DUPLICATE)
