"""The table of routes: for each method and path the callers, the bodies and the answers.

The OpenAPI document and the docs page are made from this table. A new route needs an entry here: a test compares the
table with the routes that exist (API-53).
"""

from app.openapi.checkouts import CHECKOUTS
from app.openapi.entry import BUYER, SERVER, STRIPE, Operation
from app.openapi.service import SERVICE
from app.openapi.subscription import SUBSCRIPTION

__all__ = ["BUYER", "OPERATIONS", "SERVER", "STRIPE", "TAGS", "Operation"]

OPERATIONS: tuple[Operation, ...] = (*CHECKOUTS, *SUBSCRIPTION, *SERVICE)

TAGS = {
    "Checkouts": "A buyer asks for a payment page.",
    "Subscription": "A user's subscription and access, its changes, and the plans.",
    "Customers": "Users who already are Stripe customers.",
    "Webhooks": "Stripe's deliveries.",
    "Operations": "For operators.",
}
