"""The steps of a reconciling run, one function each; `reconciling` chooses among them.

Each looks at Stripe with no transaction open, then commits what it found together with how far the run has come:
killed at any point, the next one goes on from the row, and what was done twice changes nothing.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.checkout.orphaned_sessions import expire_orphaned_sessions
from billing.checkout.rules import LOOK_BACK
from billing.clock import Clock
from billing.database import Database
from billing.errors import InvalidEvent, StaleWrite, StripeRefused
from billing.ids import CUSTOMER, id_like
from billing.jobs import ProcessEvent, RemedyDuplicates
from billing.locks import Locks
from billing.maintenance import reconcile_store, runs
from billing.maintenance.runs import Run
from billing.models import EventStatus, RunPhase
from billing.product_tag import is_tagged, nonce_of
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.projection import Change, belongs, changed_fields
from billing.subscriptions.sync import compare_customer, sync_customer
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.event_types import action_for

log = structlog.get_logger(__name__)

# A delivery on its way is not one that never came; Stripe's first attempt follows within seconds.
GRACE = timedelta(seconds=60)
COMPARE_AFTER = timedelta(days=1)
COMPARED_TOGETHER = 10  # between two places that are saved: what a killed run compares again
MOST_COMPARED = 200  # in a run that need not be thorough; the rest has its turn in the next one
MOST_DETAILS = 100  # customers whose drift is kept in the report; the log has all of them
LEFT_OFF = "left_off_at"  # in the report: the customer after whom the comparing of a run begins
COUNTS = ("pages", "events", "found", "unreadable", "strays", "listed", "compared", "drifted", "failed")


@dataclass(frozen=True, slots=True)
class Context:
    """What every step is handed."""

    database: Database
    stripe: StripeGateway
    locks: Locks
    queue: Queue
    clock: Clock
    catalog: Catalog
    pace: Callable[[], None]
    dry: bool


def save(row: Run, ctx: Context, **values: Any) -> Run:
    """Commit a step; StaleWrite where the claim is another's by now."""
    if ctx.dry:
        return dataclasses.replace(row, **values)
    with ctx.database.write() as connection:
        return saved(connection, row, ctx, **values)


def saved(connection: sa.Connection, row: Run, ctx: Context, **values: Any) -> Run:
    if not runs.save(connection, row, now=ctx.clock.now(), **values):
        raise StaleWrite("Another worker has taken over the reconciling.")
    return dataclasses.replace(row, **values)


def _counted(row: Run, **more: int) -> dict[str, Any]:
    return {**row.report, **{what: row.report.get(what, 0) + number for what, number in more.items()}}


# --- 1 strays


def _look_for_strays(row: Run, ctx: Context) -> Run:
    """Whom a session may bill that nobody will look at again; expiring is the checkout protocol's."""
    ctx.pace()
    listed = ctx.stripe.list_open_sessions(created_since=ctx.stripe.now() - LOOK_BACK)
    tagged = [one for one in listed if is_tagged(one, ctx.catalog.product)]
    nonces = [nonce for one in tagged if (nonce := nonce_of(one))]
    customers = {str(one["id"]): id_like(CUSTOMER, one.get("customer")) for one in tagged}
    with ctx.database.read() as connection:  # read after the list: one just opened is owned by now (LAN-5)
        owned = reconcile_store.owned_of(connection, nonces=nonces, session_ids=customers)
        known = reconcile_store.owned_customers(connection, {id_ for id_ in customers.values() if id_})
    strays = [one for one in tagged if one["id"] not in owned and nonce_of(one) not in owned]
    # Of a customer whom we do not know, what carries a nonce was ours before a backup was restored; what does not
    # is an earlier system's.
    whose = sorted({id_ for one in strays if (id_ := customers[one["id"]]) and (id_ in known or nonce_of(one))})
    failed = 0
    for customer_id in whose if not ctx.dry else ():
        ctx.pace()
        try:
            expire_orphaned_sessions(
                customer_id, database=ctx.database, stripe=ctx.stripe, locks=ctx.locks, catalog=ctx.catalog
            )
        except StripeRefused as refused:  # of this customer only, a deleted one for example
            failed += 1
            log.warning("strays.refused", customer_id=customer_id, reason=refused.sentence)
        row = save(row, ctx)
    report = _counted(row, strays=len(strays), failed=failed)
    return save(row, ctx, phase=RunPhase.EVENTS, cursor=None, report=report)


# --- 2 events


def _read_page(row: Run, ctx: Context) -> Run:
    """One page: what the ledger lacks is recorded, in one transaction with the place of the page."""
    assert row.since is not None, "a run has a beginning"
    ctx.pace()
    try:
        page = ctx.stripe.page_events(created_since=row.since, after=row.cursor)
    except StripeRefused as refused:
        if row.cursor is None or refused.param not in (None, "starting_after"):
            raise
        return save(row, ctx, cursor=None)  # that event is older than 30 days by now: once more from the newest
    until = row.until or ctx.stripe.now() - GRACE  # by Stripe's clock, which dated the events
    events = [
        one for one in page.items if action_for(str(one.get("type"))) and one.get("created", 0) <= until.timestamp()
    ]
    done = {"phase": RunPhase.OBJECTS if row.thorough else RunPhase.CUSTOMERS, "cursor": None}
    place: dict[str, Any] = {"cursor": page.items[-1]["id"]} if page.has_more else done
    if not page.has_more:
        place["mark"] = max(row.mark or until, until)
    ids = [str(one.get("id")) for one in events]
    with ctx.database.read() as connection:
        lacking = reconcile_store.unknown_of(connection, ids)
    fresh = [new for one in events if one.get("id") in lacking and (new := _readable(one, ctx.clock.now()))]
    report = _counted(row, pages=1, events=len(events), found=len(fresh), unreadable=len(lacking) - len(fresh))
    if ctx.dry:
        return dataclasses.replace(row, until=until, report=report, **place)
    with ctx.database.write() as connection:
        kept = [made for made in events_store.record_all(connection, fresh) if made]
        reconcile_store.note_source(connection, [id_ for id_, _status in kept])
        report["found"] -= len(fresh) - len(kept)  # delivered after all, in this very moment
        row = saved(connection, row, ctx, until=until, report=report, **place)
    _wake(kept, fresh, ctx)
    return row


def _readable(event: Mapping[str, Any], now: datetime) -> NewEvent | None:
    """As it would have come, byte by byte of our own writing: half a surrogate pair stays the escape that it was."""
    try:
        return read_event(json.dumps(event, separators=(",", ":")).encode(), now=now)
    except InvalidEvent as error:
        log.warning("event.unreadable", reason=error.sentence)
        return None


def _wake(kept: Sequence[tuple[int, EventStatus]], fresh: Sequence[NewEvent], ctx: Context) -> None:
    """After the commit; a message for each customer would do, and one for each event is only a look more."""
    for row_id, status in kept:
        if status is EventStatus.PENDING:
            ctx.queue.send(ProcessEvent(row_id))
    if kept:
        log.warning("events.found", events=len(kept), types=sorted({new.type for new in fresh}))


# --- 3 objects


def _list_objects(row: Run, ctx: Context) -> Run:
    """One page of the account's subscriptions: ours may be of customers of whom we never heard."""
    ctx.pace()
    page = ctx.stripe.page_subscriptions(after=row.cursor)
    ours = {id_ for one in page.items if belongs(one, ctx.catalog) and (id_ := id_like(CUSTOMER, one.get("customer")))}
    with ctx.database.read() as connection:
        unknown = reconcile_store.unknown_customers(connection, ours)
    row = _compare(unknown, row, ctx)
    place = {"cursor": page.items[-1]["id"]} if page.has_more else {"cursor": None, "phase": RunPhase.CUSTOMERS}
    return save(row, ctx, report=_counted(row, listed=len(page.items)), **place)


# --- 4 customers


def _compare_some(row: Run, ctx: Context) -> Run:
    """Those of our customers who were not fetched for long: their events may never have been made.

    By id, from where the last run had to leave off to the last one, and then from the first one: so that everybody has
    their turn, however often a run is begun anew, and whoever is refused each time (WHK-96).
    """
    assert row.started_at is not None, "a run has a beginning"
    before = row.started_at if row.thorough else row.started_at - COMPARE_AFTER
    after = compared_to(row)
    with ctx.database.read() as connection:
        chosen = reconcile_store.to_compare(connection, after=after or "", before=before, limit=COMPARED_TOGETHER)
    row = _compare(chosen, row, ctx)
    if len(chosen) == COMPARED_TOGETHER:
        if row.thorough or row.report["compared"] < MOST_COMPARED:
            return save(row, ctx, cursor=chosen[-1], report=row.report)
        after = chosen[-1]
    elif row.report.get(LEFT_OFF):
        return save(row, ctx, cursor=None, report={**row.report, LEFT_OFF: None})
    else:
        after = None
    ended = {"phase": RunPhase.IDLE, "cursor": None, "finished_at": ctx.clock.now()}
    return save(row, ctx, report={**row.report, LEFT_OFF: after}, **ended)


def compared_to(row: Run) -> str | None:
    """The last customer of this run who was compared, or before it has come to them, of one that did not end."""
    place = row.cursor if row.phase is RunPhase.CUSTOMERS else None
    return place or row.report.get(LEFT_OFF)


def _compare(customer_ids: Sequence[str], row: Run, ctx: Context) -> Run:
    """Sync them, which is comparing and repairing in one; what differed is in the report, without a value of it."""
    drift, failed = list(row.report["drift"]), 0
    drifted = 0
    for customer_id in customer_ids:
        row = save(row, ctx)
        ctx.pace()
        try:
            changes = _differences(customer_id, ctx)
        except StaleWrite:
            continue  # others keep syncing this one: it is looked after
        except StripeRefused as refused:
            failed += 1
            log.warning("customer.not_compared", customer_id=customer_id, reason=refused.sentence)
            continue
        if changes:
            drifted += 1
            fields = sorted({field for change in changes for field in changed_fields(change)})
            log.warning("customer.drifted", customer_id=customer_id, fields=fields)
            drift += [{"customer_id": customer_id, "fields": fields}] if len(drift) < MOST_DETAILS else []
    counted = _counted(row, compared=len(customer_ids), drifted=drifted, failed=failed)
    return dataclasses.replace(row, report={**counted, "drift": drift})


def _differences(customer_id: str, ctx: Context) -> Sequence[Change]:
    whose: dict[str, Any] = {"database": ctx.database, "stripe": ctx.stripe, "clock": ctx.clock, "catalog": ctx.catalog}
    if ctx.dry:
        return compare_customer(customer_id, **whose)
    return sync_customer(
        customer_id,
        with_payment_status=ctx.catalog.access.depends_on_payment,
        on_duplicates=lambda incident_id: ctx.queue.send(RemedyDuplicates(incident_id)),
        **whose,
    )


STEPS: Mapping[RunPhase, Callable[[Run, Context], Run]] = {
    RunPhase.STRAYS: _look_for_strays,
    RunPhase.EVENTS: _read_page,
    RunPhase.OBJECTS: _list_objects,
    RunPhase.CUSTOMERS: _compare_some,
}
