"""The gateway: the only place that talks to Stripe and imports its SDK.

port     what flows may ask of Stripe: StripeGateway
client   each of these as a request: GatewayClient
requests one request and its answer, pages, parallel reads, Stripe's own time; HTTP with bounds and without redirects
errors   errors of the SDK as errors of ours
pace     the budget of requests a second, buyers first
"""

from billing.stripe_gateway.client import GatewayClient
from billing.stripe_gateway.pace import Pace
from billing.stripe_gateway.port import Page, StripeGateway
from billing.stripe_gateway.requests import API_VERSION

__all__ = ["API_VERSION", "GatewayClient", "Pace", "Page", "StripeGateway"]
