"""The operations of the HTTP interface, one entry each: who may call, what goes in, what comes out.

Whoever adds a route adds its entry here; the OpenAPI document and the docs page are made from this table,
and a test holds it against the routes that exist (API-53).
"""

from app.openapi.checkouts import CHECKOUTS
from app.openapi.entry import BUYER, SERVER, STRIPE, Operation
from app.openapi.service import SERVICE
from app.openapi.subscription import SUBSCRIPTION

__all__ = ["BUYER", "OPERATIONS", "SERVER", "STRIPE", "TAGS", "Operation"]

OPERATIONS: tuple[Operation, ...] = (*CHECKOUTS, *SUBSCRIPTION, *SERVICE)

TAGS = {
    "Checkouts": "A buyer asks for a payment page.",
    "Subscription": "What a user has, and what there is to buy.",
    "Customers": "Users who already are Stripe customers.",
    "Webhooks": "What Stripe tells.",
    "Operations": "For whoever runs the service.",
}
