"""Orphaned sessions of one customer: open tagged sessions that no live attempt owns, expired between checkouts.

Stripe sends no event when a session is created, so the maintenance run looks for them. This is step 7s of the protocol
alone. Under the lane's lock it lists at Stripe, then reads the lane, and expires only what the lane does not own.
"""

import structlog

from billing.catalog import Catalog
from billing.checkout import lane_store
from billing.checkout.verify import verify
from billing.coordination.locks import Locks, lock_name
from billing.customers.store import find_lane_of_customer
from billing.database import Database
from billing.stripe_gateway import StripeGateway

log = structlog.get_logger(__name__)


def expire_orphaned_sessions(
    customer_id: str, *, database: Database, stripe: StripeGateway, locks: Locks, catalog: Catalog
) -> bool:
    """Expire one customer's orphaned sessions as a checkout does (LAN-5); False while a worker holds the lane.

    A customer whom the ledger does not know, as after a restored backup, owns nothing. Raises the gateway's errors.
    """

    def lane_id_of() -> int | None:
        with database.read() as connection:
            return find_lane_of_customer(connection, customer_id=customer_id, product=catalog.product)

    def owned() -> tuple[str | None, str | None]:
        """Read after the sessions were listed. The lane may have been made meanwhile."""
        lane_id = lane_id_of()
        with database.read() as connection:
            row = lane_store.read_lane(connection, lane_id) if lane_id else None
        return (row.nonce, row.session_id) if row else (None, None)

    lane_id = lane_id_of()
    with locks.hold(lock_name(lane_id, customer_id)) as lease:
        if lease is None:
            return False
        verify(customer_id, recorded=(), owned=owned, stripe=stripe, catalog=catalog)
    log.info("orphaned_sessions.checked", customer_id=customer_id, lane_id=lane_id)
    return True
