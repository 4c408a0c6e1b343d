"""The gateway: the only place that talks to Stripe and imports its SDK.

port         what flows may ask of Stripe: StripeGateway
live         each of these as a request: LiveStripe
wire         one request and its answer, pages, the buyers' line and the others', Stripe's own time
translating  errors of the SDK in our words
http         the transport: at a bounded pace, answers bounded in size and time, no redirects
"""

from billing.stripe_gateway.client import GatewayClient
from billing.stripe_gateway.port import Page, StripeGateway
from billing.stripe_gateway.requests import API_VERSION

__all__ = ["API_VERSION", "GatewayClient", "Page", "StripeGateway"]
