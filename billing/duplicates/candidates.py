"""What the policy decides from: each live subscription of the customer, its invoices, and whether a card is there.

It is read only while there are several live ones, so it costs a customer with one subscription nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from billing.catalog import Catalog
from billing.duplicates.policy import Candidate, only_ours
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.invoices import covering, deciding
from billing.subscriptions.projection import plan_item

Json = Mapping[str, Any]
_CARDS = ("default_payment_method", "default_source")


def read_candidates(
    subscriptions: Collection[Json], *, stripe: StripeGateway, catalog: Catalog, doubted: Collection[str]
) -> list[Candidate]:
    """The candidates among a customer's subscriptions, oldest first; of a single one nothing more is read.

    `doubted` are ids whose payment for this period the projection shows as disputed or paid back. Raises the gateway's
    errors.
    """
    live = only_ours(subscriptions, catalog)
    if len(live) < 2:
        return [Candidate(subscription) for subscription in live]
    invoices = stripe.in_parallel(*(partial(or_none, stripe.list_invoices, str(one["id"])) for one in live))
    return [
        Candidate(
            subscription,
            invoices=tuple(billed or ()),
            period=_period(item := plan_item(subscription, catalog), billed or (), catalog),
            has_card=_has_card(subscription, stripe),
            is_sold=catalog.plan_sold_as(item.get("price")) is not None,
            doubted=subscription["id"] in doubted,
        )
        for subscription, billed in zip(live, invoices, strict=True)
    ]


def _period(item: Json, invoices: Collection[Json], catalog: Catalog) -> Sequence[Json]:
    """The invoice that decides about the running period; else the draft that a pause left behind, so it is not paid."""
    found = deciding(item, invoices, catalog)
    return [found] if found else covering(item, invoices, catalog, without=())


def _has_card(subscription: Json, stripe: StripeGateway) -> bool:
    """Whether Stripe can charge it by itself: by its own card, or by its customer's default one. Asked of trials."""
    if subscription.get("status") != "trialing" or any(subscription.get(name) for name in _CARDS):
        return True
    if subscription.get("collection_method") == "send_invoice":
        return False
    customer = subscription.get("customer")
    customer_id = customer.get("id") if isinstance(customer, Mapping) else customer
    found = or_none(stripe.get_customer, str(customer_id)) or {}
    return bool((found.get("invoice_settings") or {}).get("default_payment_method") or found.get("default_source"))
