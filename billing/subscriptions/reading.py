"""Subscriptions: what a user reads about their own. From the ledger alone; Stripe is not asked."""

from typing import Any

from billing.catalog import Catalog
from billing.clock import Clock
from billing.customer_ledger import read_customer
from billing.database import Database
from billing.subscriptions.access import choose, decide_access, describe, describe_access
from billing.subscriptions.projection_ledger import read_subscriptions


def read_subscription(user_id: str, *, database: Database, catalog: Catalog, clock: Clock) -> dict[str, Any]:
    """The body of `GET /v1/subscription` (SUB-9): the user's access, and the subscription that decides it.

    Whose a subscription is, is known by our own table of customers only, never by metadata.
    """
    now = clock.now()
    with database.read() as connection:
        customer = read_customer(connection, user_id)
        known = customer.customer_id if customer else None
        rows = read_subscriptions(connection, known) if known else []
    ours = [row for row in rows if row.product == catalog.product]
    chosen = choose(ours, now)
    return {
        "access": describe_access(decide_access(ours, now)),
        "subscription": describe(chosen) if chosen else None,
    }
