"""What a user reads about their own subscription and access: from the ledger alone, without a call to Stripe."""

from typing import Any

import structlog

from billing.catalog import Catalog
from billing.clock import Clock, iso
from billing.customers.store import read_customer
from billing.database import Database
from billing.subscriptions import product_trial
from billing.subscriptions.access import choose, decide_access, describe, describe_access
from billing.subscriptions.client_data import read_client_data
from billing.subscriptions.projection import has_begun
from billing.subscriptions.projection_store import read_subscriptions

log = structlog.get_logger(__name__)


def read_subscription(user_id: str, *, database: Database, catalog: Catalog, clock: Clock) -> dict[str, Any]:
    """The body of `GET /v1/subscription` (SUB-9): the user's access, and the subscription that decides it.

    The user's customer comes from our own table, never from metadata. Where the catalog gives new users a trial, their
    first read begins it (SUB-63). Raises LedgerUnavailable.
    """
    now, product, days = clock.now(), catalog.product, catalog.access.product_trial_days
    with database.read() as connection:
        customer = read_customer(connection, user_id)
        customer_id = customer.customer_id if customer else None
        rows = read_subscriptions(connection, customer_id) if customer_id else []
        ours = [row for row in rows if row.product == product]
        is_candidate = days > 0 and not any(has_begun(row.status) for row in ours)
        is_new = is_candidate and product_trial.may_begin(connection, user_id, product)
        # Read after it: a trial that another request has just begun has to be found.
        trial = None if customer and customer.is_erased else product_trial.read(connection, user_id, product)
        chosen = choose(ours, now, catalog.access)
        said = read_client_data(connection, user_id, [chosen.nonce]) if chosen else {}
    if is_new:
        with database.write() as connection:
            trial = product_trial.begin(connection, user_id, product, days=days, now=now)
        log.info("product_trial.begun", product=product, days=days)
    access = decide_access(ours, now, catalog.access, trial_ends_at=trial.ends_at if trial else None)
    return {
        "access": describe_access(access),
        "subscription": describe(chosen, said.get(chosen.nonce)) if chosen else None,
        "product_trial": {"started_at": iso(trial.started_at), "ends_at": iso(trial.ends_at)} if trial else None,
    }
