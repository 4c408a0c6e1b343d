"""Synchronizing: bring one customer's projection to what Stripe says now. Fetch and project, nothing else.

1 read the generation  2 fetch, with no transaction open  3 in one transaction: raise the generation if it is still
what was read (else fetch again), write the rows, note the changes in the outbox, keep the incident, and let the
caller close what asked for the sync. So an old fetch never overwrites a newer one (LED-5), and nothing that asked
is closed without the rows it asked for (LED-6).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.clock import Clock
from billing.customers.store import find_user, is_erased
from billing.database import Database, run_in_transaction
from billing.errors import StaleWrite
from billing.stripe_gateway import StripeGateway
from billing.subscriptions import projection_store, trial_store
from billing.subscriptions.access import decide_access, describe, describe_access
from billing.subscriptions.fetch import Seen, fetch
from billing.subscriptions.payment_status import look_at_money
from billing.subscriptions.projection import Change, Money, Subscription, differences, is_live, project, schedule_of

log = structlog.get_logger(__name__)

# 5: each lost round means that another worker just wrote something newer than what we read.
ROUNDS = 5


def sync_customer(
    customer_id: str,
    *,
    database: Database,
    stripe: StripeGateway,
    clock: Clock,
    catalog: Catalog,
    look_at_customer: bool = True,
    ask_for_money: bool = False,
    sessions: Iterable[str] = (),
    subscriptions: Iterable[str] = (),
    then: Callable[[sa.Connection], None] | None = None,
    on_duplicates: Callable[[int], object] | None = None,
) -> Sequence[Change]:
    """Fetch and project; what changed. `sessions` and `subscriptions` are the ids that events named; `ask_for_money`
    looks at disputes and refunds, too.

    `then` runs inside the transaction that writes it, `on_duplicates` after its commit with the id of the incident,
    where there is one.

    Raises what the gateway raises, and StaleWrite when others kept writing for ROUNDS rounds.
    """
    for _ in range(ROUNDS):
        with database.read() as connection:
            generation = projection_store.read_generation(connection, customer_id)
            known = projection_store.read_subscriptions(connection, customer_id)
        seen = fetch(
            customer_id,
            stripe=stripe,
            look_at_customer=look_at_customer,
            sessions=sessions,
            expected=[*subscriptions, *_live(known)],
        )
        money = _money(seen, known, asked=ask_for_money, catalog=catalog, stripe=stripe)
        write = partial(_write_all, customer_id, seen, money, generation, catalog=catalog, now=clock.now(), then=then)
        written = run_in_transaction(database, write)
        if written is None:
            continue
        changes, incident_id = written
        log.info("customer.synced", customer_id=customer_id, changes=[change.kind for change in changes])
        if incident_id is not None and on_duplicates is not None:
            on_duplicates(incident_id)
        return changes
    raise StaleWrite("Other workers kept syncing this customer. Try again in a moment.")


def compare_customer(
    customer_id: str, *, database: Database, stripe: StripeGateway, clock: Clock, catalog: Catalog
) -> Sequence[Change]:
    """What a sync would change now; nothing is written. Raises what the gateway raises."""
    with database.read() as connection:
        before = projection_store.read_subscriptions(connection, customer_id)
    seen = fetch(customer_id, stripe=stripe, look_at_customer=False, sessions=(), expected=_live(before))
    money = _money(seen, before, asked=catalog.access.depends_on_money, catalog=catalog, stripe=stripe)
    return differences(before, _project(customer_id, seen, before, money, catalog=catalog, now=clock.now()))


def _money(
    seen: Seen, before: Sequence[Subscription], *, asked: bool, catalog: Catalog, stripe: StripeGateway
) -> Mapping[str, Money]:
    """Where somebody asks, or something was disputed or paid back when we last looked: it may be over."""
    if asked or any(row.disputed or row.refunded for row in before):
        return look_at_money(seen.subscriptions, catalog=catalog, stripe=stripe)
    return {}


def _live(rows: Iterable[Subscription]) -> list[str]:
    return [row.subscription_id for row in rows if is_live(row.status)]


def _write_all(
    customer_id: str,
    seen: Seen,
    money: Mapping[str, Money],
    generation: int | None,
    connection: sa.Connection,
    *,
    catalog: Catalog,
    now: datetime,
    then: Callable[[sa.Connection], None] | None,
) -> tuple[Sequence[Change], int | None] | None:
    """Step 3; None when somebody wrote something newer than what was read."""
    if not projection_store.advance(connection, customer_id, generation=generation, deleted=seen.deleted, now=now):
        return None
    written = _write(connection, customer_id, seen, money, catalog=catalog, now=now)
    if then is not None:
        then(connection)
    return written


def _write(
    connection: sa.Connection,
    customer_id: str,
    seen: Seen,
    money: Mapping[str, Money],
    *,
    catalog: Catalog,
    now: datetime,
) -> tuple[Sequence[Change], int | None]:
    """Step 3, after the gate: rows, changes, sessions and the incident, whose id it gives."""
    before = projection_store.read_subscriptions(connection, customer_id)
    after = _project(customer_id, seen, before, money, catalog=catalog, now=now)
    projection_store.replace_subscriptions(connection, before, after)
    changes = differences(before, after)
    if changes:
        ours = [row for row in after if row.product == catalog.product]
        _note(connection, customer_id, changes, ours, catalog=catalog, now=now)
    for session_id, outcome in seen.sessions.items():
        projection_store.note_session(connection, session_id, outcome)
    return changes, _watch(connection, customer_id, after, catalog=catalog, now=now)


def _project(
    customer_id: str,
    seen: Seen,
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
            schedule=seen.schedules.get(schedule_of(subscription) or ""),
            before=known.get(str(subscription["id"])),
            now=now,
            money=money.get(str(subscription["id"])),
        )
        for subscription in seen.subscriptions
    ]


def _note(
    connection: sa.Connection,
    customer_id: str,
    changes: Iterable[Change],
    ours: Sequence[Subscription],
    *,
    catalog: Catalog,
    now: datetime,
) -> None:
    """Every change goes to the application with whose it is and what it means for their access.

    Nothing of somebody who was erased: the application knows them no more, and what was sent is forgotten.
    """
    if is_erased(connection, customer_id):
        return
    user_id = find_user(connection, customer_id)
    trial = trial_store.read(connection, user_id, catalog.product) if user_id else None
    access = decide_access(ours, now, catalog.access, trial_ends_at=trial.ends_at if trial else None)
    about = {
        "user_id": user_id,
        "customer_id": customer_id,
        "access": describe_access(access),
    }
    for change in changes:
        payload = {**about, "subscription": describe(change.subject)}
        projection_store.note_change(connection, customer_id=customer_id, kind=change.kind, payload=payload, now=now)


def _watch(
    connection: sa.Connection, customer_id: str, rows: Iterable[Subscription], *, catalog: Catalog, now: datetime
) -> int | None:
    """More than one live subscription of our product is an incident for a person (SUB-8)."""
    live = [row.subscription_id for row in rows if row.product == catalog.product and is_live(row.status)]
    incident_id, opened = projection_store.note_duplicates(
        connection, customer_id=customer_id, product=catalog.product, live=sorted(live), now=now
    )
    if opened:
        log.error("incident.opened", kind=projection_store.DUPLICATE, customer_id=customer_id, subscriptions=live)
    return incident_id
