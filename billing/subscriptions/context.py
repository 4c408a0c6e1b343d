"""What everything that syncs a customer needs; the flows above add their own."""

from dataclasses import dataclass

from billing.catalog import Catalog
from billing.clock import Clock
from billing.coordination.queue import Queue
from billing.database import Database
from billing.stripe_gateway import StripeGateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The ledger, Stripe, the queue, the time, and what is sold."""

    database: Database
    stripe: StripeGateway
    queue: Queue
    clock: Clock
    catalog: Catalog
