"""The gateway: the only place that talks to Stripe and imports its SDK.

port     what flows may ask of Stripe: StripeGateway
calls    each of these as a request: GatewayClient
requests one request and its answer, pages, parallel reads, Stripe's own time; HTTP with bounds and without redirects
errors   errors of the SDK as errors of ours
pace     who waits in this process; budget: whose turn it is; shared_budget: one for all processes
"""

from billing.stripe_gateway.budget import Budget
from billing.stripe_gateway.calls import GatewayClient
from billing.stripe_gateway.pace import Pace
from billing.stripe_gateway.port import Page, StripeGateway
from billing.stripe_gateway.requests import API_VERSION
from billing.stripe_gateway.shared_budget import SharedBudget

__all__ = ["API_VERSION", "Budget", "GatewayClient", "Pace", "Page", "SharedBudget", "StripeGateway"]
