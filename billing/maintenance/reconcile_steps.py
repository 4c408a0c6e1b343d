"""The first two steps of a reconciling run: open sessions and events. `reconcile_customers` has the others.

Each reads Stripe with no transaction open, then commits its findings together with the run's progress. After a kill the
next run continues from the row, and a step that runs twice changes nothing.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from billing.checkout.orphaned_sessions import expire_orphaned_sessions
from billing.checkout.rules import LOOK_BACK
from billing.coordination.jobs import WorkEvents
from billing.coordination.locks import Locks
from billing.errors import InvalidEvent, StaleWrite, StripeRefused
from billing.maintenance import reconcile_store, runs
from billing.maintenance.runs import Run
from billing.models import EventStatus, RunPhase
from billing.rules.ids import CUSTOMER, id_like
from billing.rules.product_tag import is_tagged, nonce_of
from billing.subscriptions import context
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.event_types import action_for

log = structlog.get_logger(__name__)

# 60 s: a younger event may still be delivered; Stripe's first attempt follows within seconds.
GRACE = timedelta(seconds=60)
COUNTS = ("pages", "events", "found", "unreadable", "strays", "listed", "compared", "drifted", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(context.Context):
    """The collaborators of every step. `dry` writes nothing."""

    locks: Locks
    dry: bool


def save(row: Run, ctx: Context, **values: Any) -> Run:
    """Commit a step. Raises StaleWrite when the claim is lost."""
    if ctx.dry:
        return dataclasses.replace(row, **values)
    with ctx.database.write() as connection:
        return saved(connection, row, ctx, **values)


def saved(connection: sa.Connection, row: Run, ctx: Context, **values: Any) -> Run:
    """The same, within a transaction."""
    if not runs.save(connection, row, now=ctx.clock.now(), **values):
        raise StaleWrite("Another worker has taken over the reconciling.")
    return dataclasses.replace(row, **values)


def counted(row: Run, **more: int) -> dict[str, Any]:
    """The report, with so many more of each."""
    return {**row.report, **{name: row.report.get(name, 0) + number for name, number in more.items()}}


# --- 1 strays


def expire_strays(row: Run, ctx: Context) -> Run:
    """Expire the open sessions that no live attempt owns, by the checkout protocol's own step."""
    listed = ctx.stripe.list_open_sessions(created_since=ctx.stripe.now() - LOOK_BACK)
    tagged = [session for session in listed if is_tagged(session, ctx.catalog.product)]
    nonces = [nonce for session in tagged if (nonce := nonce_of(session))]
    customers = {str(session["id"]): id_like(CUSTOMER, session.get("customer")) for session in tagged}
    with ctx.database.read() as connection:  # after the list: a session that was just opened is owned by now (LAN-5)
        owned = reconcile_store.owned_of(connection, nonces=nonces, session_ids=customers)
        known = reconcile_store.owned_customers(connection, {id_ for id_ in customers.values() if id_})
    orphaned = [session for session in tagged if session["id"] not in owned and nonce_of(session) not in owned]
    # A session with a nonce whose customer we do not know was ours before a backup was restored. Without a nonce it was
    # made by an earlier system.
    billed = {
        customers[session["id"]] for session in orphaned if customers[session["id"]] in known or nonce_of(session)
    }
    failed = 0
    for customer_id in sorted(filter(None, billed)) if not ctx.dry else ():
        try:
            expire_orphaned_sessions(
                customer_id, database=ctx.database, stripe=ctx.stripe, locks=ctx.locks, catalog=ctx.catalog
            )
        except StripeRefused as refused:  # of this customer only, a deleted one for example
            failed += 1
            log.warning("strays.refused", customer_id=customer_id, reason=refused.sentence)
        row = save(row, ctx)
    report = counted(row, strays=len(orphaned), failed=failed)
    return save(row, ctx, phase=RunPhase.EVENTS, cursor=None, report=report)


# --- 2 events


def read_page(row: Run, ctx: Context) -> Run:
    """Read one page, and record what the ledger lacks in one transaction with the page's cursor."""
    assert row.since is not None, "a run has a beginning"
    try:
        page = ctx.stripe.page_events(created_since=row.since, after=row.cursor)
    except StripeRefused as refused:
        if row.cursor is None or refused.param not in (None, "starting_after"):
            raise
        return save(row, ctx, cursor=None)  # that event is older than 30 days by now: begin again with the newest
    until = row.until or ctx.stripe.now() - GRACE  # by Stripe's clock, which dated the events
    followed = [event for event in page.items if action_for(str(event.get("type")))]
    events = [event for event in followed if event.get("created", 0) <= until.timestamp()]
    done = {"phase": RunPhase.OBJECTS if row.thorough else RunPhase.CUSTOMERS, "cursor": None}
    place: dict[str, Any] = {"cursor": page.items[-1]["id"]} if page.has_more else done
    if not page.has_more:
        place["mark"] = max(row.mark or until, until)
    ids = [str(event.get("id")) for event in events]
    with ctx.database.read() as connection:
        lacking = reconcile_store.unknown_of(connection, ids)
    fresh = [new for event in events if event.get("id") in lacking and (new := _readable(event, ctx.clock.now()))]
    report = counted(row, pages=1, events=len(events), found=len(fresh), unreadable=len(lacking) - len(fresh))
    if ctx.dry:
        return dataclasses.replace(row, until=until, report=report, **place)
    with ctx.database.write() as connection:
        kept = [made for made in events_store.record_all(connection, fresh) if made]
        reconcile_store.note_source(connection, [id_ for id_, _status in kept])
        report["found"] -= len(fresh) - len(kept)  # delivered at the same moment
        row = saved(connection, row, ctx, until=until, report=report, **place)
    _wake(kept, fresh, ctx)
    return row


def _readable(event: Mapping[str, Any], now: datetime) -> NewEvent | None:
    """The event as if it were delivered, in JSON of our own. Half of a surrogate pair stays an escape."""
    try:
        return read_event(json.dumps(event, separators=(",", ":")).encode(), now=now)
    except InvalidEvent as error:
        log.warning("event.unreadable", reason=error.sentence)
        return None


def _wake(kept: Sequence[tuple[int, EventStatus]], fresh: Sequence[NewEvent], ctx: Context) -> None:
    """After the commit."""
    if any(status is EventStatus.PENDING for _row_id, status in kept):
        ctx.queue.send(WorkEvents())
    if kept:
        log.warning("events.found", events=len(kept), types=sorted({new.type for new in fresh}))
