"""One customer, as an operator sees them: access and why, what they have, and one timeline. From the ledger alone."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from billing.catalog import Catalog
from billing.checkout.view import read_view
from billing.clock import Clock
from billing.customers.store import read_customer
from billing.database import Database
from billing.errors import NotFound
from billing.models import (
    CheckoutStatus,
    EventStatus,
    attempts,
    checkouts,
    events,
    incidents,
    lanes,
    operations,
    outbox,
    projections,
)
from billing.operators import erasure_store, installation
from billing.operators.audit import list_audit_of
from billing.operators.listing import Row, first_of, rows_of
from billing.operators.timeline import timeline_of
from billing.rules.money import in_words
from billing.subscriptions import product_trial
from billing.subscriptions.access import choose, decide_access, describe, describe_access
from billing.subscriptions.client_data import ClientData, read_client_data
from billing.subscriptions.projection import Subscription
from billing.subscriptions.projection_store import read_subscriptions

DASHBOARD = "https://dashboard.stripe.com"
# What decided, by the access' reason; the names are those of the catalog's [access].
WHY: Mapping[str, str] = {
    "active": "a subscription is active",
    "trialing": "a subscription is in its trial",
    "past_due_grace": "an invoice is open, within past_due_grace_days",
    "past_due": "an invoice is open for longer than past_due_grace_days, or the first payment failed",
    "period_paid": "the current period is paid, whatever else is open",
    "first_payment_pending": "the first payment is on its way, and first_payment_pending = deny",
    "collection_paused": "collection is paused at Stripe, and collection_paused = deny",
    "disputed": "the current period's payment is disputed, and disputed = deny",
    "refunded": "the current period was refunded, and refunded = deny",
    "not_sold": "the subscription has our tag, and a price that the catalog neither sells nor sold",
    "unpaid": "Stripe gave up collecting; [access] unpaid decides",
    "paused": "its trial ended without a card, or it was paused at Stripe; [access] paused decides",
    "incomplete": "the first payment waits for the buyer",
    "canceled": "the subscription is over",
    "product_trial": "product_trial_days of a new user",
    "unknown_status": "Stripe has a status that this version does not know",
    "no_subscription": "nothing is known that gives access",
}


def show_customer(user_id: str, *, database: Database, catalog: Catalog, clock: Clock, limit: int) -> Row:
    """The user, their access with its rule, and at most `limit` rows of each kind, newest first. No secrets.

    Begins no product trial, as the user's own look does. Raises NotFound and LedgerUnavailable.
    """
    now = clock.now()
    with database.read() as connection:
        customer = read_customer(connection, user_id)
        own = (lanes.c.user_id == user_id, lanes.c.product == catalog.product)
        lane = first_of(connection, sa.select(lanes).where(*own))
        trial = product_trial.read(connection, user_id, catalog.product)
        if customer is None and trial is None:
            raise NotFound("user")
        customer_id = customer.customer_id if customer else None
        ids = erasure_store.customers_of(connection, user_id)
        rows = read_subscriptions(connection, customer_id) if customer_id else []
        said = read_client_data(connection, user_id, [row.nonce for row in rows])
        dashboard = dashboard_of(connection)
        shown: Row = {
            "user_id": user_id,
            "customer_id": customer_id,
            "dashboard": f"{dashboard}/customers/{customer_id}" if customer_id else None,
            "erased_at": customer.erased_at if customer else None,
            "synced_at": _synced_at(connection, customer_id),
            "access": explain_access(rows, trial, catalog, now),
            "lane": _lane(connection, lane) if lane else None,
            "subscriptions": [describe_subscription(row, said.get(row.nonce), catalog, dashboard) for row in rows],
            "checkouts": _checkouts(connection, user_id, now, limit),
            "operations": _operations(connection, user_id, limit),
            "events": _of(connection, events, ids, limit, "event_id", "type", "status", "received_at", "error"),
            "notifications": _of(
                connection, outbox, ids, limit, "message_id", "kind", "status", "created_at", "delivered_at", "error"
            ),
            "incidents": _of(connection, incidents, ids, limit, "id", "kind", "opened_at", "resolved_at", "reason"),
            "audit": list_audit_of(connection, user_id, ids, limit=limit),
        }
    shown["timeline"] = timeline_of(shown)[:limit]
    shown["next"] = list(_next(shown))
    return shown


def explain_access(
    rows: Sequence[Subscription], trial: product_trial.Trial | None, catalog: Catalog, now: datetime
) -> Row:
    """The access of a user with these subscriptions, the rule, and the subscription that decides."""
    ours = [row for row in rows if row.product == catalog.product]
    access = decide_access(ours, now, catalog.access, trial_ends_at=trial.ends_at if trial else None)
    decided_by = choose(ours, now, catalog.access)
    return {
        **describe_access(access),
        "because": WHY[access.reason],
        "subscription": decided_by.subscription_id if decided_by else None,
    }


def _next(shown: Row) -> Iterator[str]:
    """The command lines that may mend what is shown."""
    user = shlex.quote(shown["user_id"])
    if shown["erased_at"]:
        return
    for row in shown["incidents"]:
        if row["resolved_at"] is None:
            yield f"onelane incidents show {row['id']}"
    if dead := [row["event_id"] for row in shown["events"] if row["status"] == EventStatus.DEAD]:
        yield f"onelane dead redrive {' '.join(dead)} --reason ..."
    if any(row["status"] == "dead" for row in shown["notifications"]):
        yield f"onelane notifications resend --customer {user} --status dead --reason ..."
    if shown["customer_id"]:
        yield f"onelane customers sync {user}"
    if page := next((row["id"] for row in shown["checkouts"] if row["status"] == CheckoutStatus.OPEN), None):
        yield f"onelane checkouts expire {page} --reason ..."


def _synced_at(connection: sa.Connection, customer_id: str | None) -> datetime | None:
    """When they were fetched from Stripe the last time."""
    query = sa.select(projections.c.synced_at).where(projections.c.customer_id == customer_id)
    moment: datetime | None = connection.scalar(query)
    return moment


def _lane(connection: sa.Connection, row: Row) -> Row:
    """The lane, how many checkouts wait in it and since when, and its attempt while that has no end."""
    names = ("id", "state", "session_id", "failures", "last_error", "next_attempt_at")
    waiting = sa.select(sa.func.count(), sa.func.min(checkouts.c.arrived_at)).where(
        checkouts.c.lane_id == row["id"], checkouts.c.status == CheckoutStatus.PENDING
    )
    count, oldest = connection.execute(waiting).one()
    columns = [attempts.c[name] for name in ("checkout_id", "session_id", "created_at", "expires_at")]
    unfinished = sa.select(*columns).where(attempts.c.nonce == row["nonce"], attempts.c.outcome.is_(None))
    return {
        **{name: row[name] for name in names},
        "waiting": count,
        "oldest_waiting_at": oldest,
        "attempt": first_of(connection, unfinished),
    }


def dashboard_of(connection: sa.Connection) -> str:
    """The address of Stripe's Dashboard for this ledger's mode, without a slash at its end."""
    bound = installation.read(connection)
    return f"{DASHBOARD}{'' if bound is None or bound.livemode else '/test'}"


def describe_subscription(row: Subscription, said: ClientData | None, catalog: Catalog, dashboard: str) -> Row:
    """A subscription for an operator. `amount` is the plan's in the catalog for one; `costs` is all of it, in words."""
    plan = catalog.plans.get(row.plan or "")
    return {
        **describe(row, said),
        "amount": plan.amount if plan else None,
        "currency": plan.currency if plan else None,
        "costs": in_words(plan.amount * (row.quantity or 1), plan.currency) if plan and plan.amount else None,
        "price_id": row.price_id,
        "ours": row.product == catalog.product,
        "dashboard": f"{dashboard}/subscriptions/{row.subscription_id}",
    }


def _checkouts(connection: sa.Connection, user_id: str, now: datetime, limit: int) -> list[Row]:
    columns = [checkouts.c[name] for name in ("id", "arrived_at", "answered_at", "error")]
    query = sa.select(*columns).where(checkouts.c.user_id == user_id).order_by(checkouts.c.arrived_at.desc())
    return [_checkout(connection, row, now) for row in rows_of(connection, query.limit(limit))]


def _checkout(connection: sa.Connection, row: Row, now: datetime) -> Row:
    view = read_view(connection, row["id"], now=now)
    assert view is not None, "it was read in this snapshot, or a moment ago"
    return {"id": row["id"], "status": view.status.value, "plan": view.plan, "session_id": view.session_id, **row}


def _operations(connection: sa.Connection, user_id: str, limit: int) -> list[Row]:
    names = ("id", "kind", "status", "subscription_id", "arrived_at", "finished_at", "last_error", "error")
    query = sa.select(*(operations.c[name] for name in names)).where(operations.c.user_id == user_id)
    return rows_of(connection, query.order_by(operations.c.arrived_at.desc()).limit(limit))


def _of(connection: sa.Connection, table: sa.Table, ids: Sequence[str], limit: int, *names: str) -> list[Row]:
    query = sa.select(*(table.c[name] for name in names)).where(table.c.customer_id.in_(ids))
    return rows_of(connection, query.order_by(table.c.id.desc()).limit(limit))
