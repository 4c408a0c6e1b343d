"""Strays of one customer: open tagged sessions that no live attempt owns, found and expired between checkouts.

No event announces that a session was created, so nobody would look: reconciling does, by this. It is step 7s of the
protocol and nothing else: under the lane's lock, list at Stripe, then read the lane, expire only what it does not own.
"""

import structlog

from billing.catalog import Catalog
from billing.checkout import lane_store
from billing.checkout.verify import verify
from billing.database import Database
from billing.locks import Locks
from billing.stripe_gateway import StripeGateway

log = structlog.get_logger(__name__)


def expire_strays(
    customer_id: str, *, database: Database, stripe: StripeGateway, locks: Locks, catalog: Catalog
) -> bool:
    """Look at one customer's sessions as a checkout would (LAN-5); False when a worker is just doing so.

    A customer whom the ledger does not know, as after a restored backup, owns nothing. Raises the gateway's errors.
    """

    def lane() -> int | None:
        with database.read() as connection:
            return lane_store.find_lane_of(connection, customer_id=customer_id, product=catalog.product)

    def owned() -> tuple[str | None, str | None]:
        """Read after the sessions were listed, the lane anew: it may have been made meanwhile."""
        lane_id = lane()
        with database.read() as connection:
            row = lane_store.read_lane(connection, lane_id) if lane_id else None
        return (row.nonce, row.session_id) if row else (None, None)

    lane_id = lane()
    with locks.hold(f"lane:{lane_id}" if lane_id else f"customer:{customer_id}") as lease:
        if lease is None:
            return False
        verify(customer_id, recorded=(), owned=owned, stripe=stripe, catalog=catalog)
    log.info("strays.expired", customer_id=customer_id, lane_id=lane_id)
    return True
