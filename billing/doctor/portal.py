"""Stripe's portal: whether it opens, and what it lets buyers do that onelane would not."""

from collections.abc import Iterator
from typing import Any

from billing.catalog import Catalog
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.errors import StripeMissing
from billing.stripe_gateway import GatewayClient

Json = dict[str, Any]

NEVER_SAVED = (
    "Stripe's portal was never saved, and [portal] of the catalog names no configuration: every buyer who opens it is"
    " refused. Save it once at https://dashboard.stripe.com/settings/billing/portal (in test mode for a test key), or"
    " set [portal] configuration."
)


def examine_portal(catalog: Catalog, stripe: GatewayClient) -> Iterator[Finding]:
    """The configuration that buyers get: the catalog's, else the account's default."""
    named = catalog.portal.configuration
    if named is None:
        default = stripe.default_portal_configuration()
        if default is None:
            yield wrong("portal", NEVER_SAVED)
        else:
            yield from _allowed(default, catalog, "The account's default portal")
        return
    try:
        configuration = stripe.get_portal_configuration(named)
    except StripeMissing:
        yield wrong("portal", f"Stripe has no portal configuration {named} for this key. Set the right id in [portal].")
        return
    if configuration.get("active"):
        yield from _allowed(configuration, catalog, f"The portal {named}")
    else:
        yield wrong("portal", f"The portal configuration {named} is not active. Activate it, or name another one.")


def _allowed(configuration: Json, catalog: Catalog, name: str) -> Iterator[Finding]:
    features: Json = configuration.get("features") or {}
    cancel, update = features.get("subscription_cancel") or {}, features.get("subscription_update") or {}
    found = [*_cancelling(cancel), *_switching(update, catalog)]
    for words, fix in found:
        yield warning("portal", f"{name} lets buyers {words}. {fix}, or name another configuration in [portal].")
    if not found:
        how = "cancel at the period's end" if cancel.get("enabled") else "not cancel"
        yield fine("portal", f"{name} lets buyers {how}, and buy nothing that the catalog does not sell.")


def _cancelling(cancel: Json) -> Iterator[tuple[str, str]]:
    if cancel.get("enabled") and cancel.get("mode") == "immediately":
        yield "cancel at once, in a period that they paid for", "Let it cancel at the end of the period"


def _switching(update: Json, catalog: Catalog) -> Iterator[tuple[str, str]]:
    if not update.get("enabled"):
        return
    allowed, products = update.get("default_allowed_updates") or [], update.get("products") or []
    if "price" in allowed:
        others = [
            str(price)
            for product in products
            for price in product.get("prices") or []
            if catalog.plan_sold_as({"id": price, "product": product.get("product")}) is None
        ]
        if others:
            yield (
                f"switch to {', '.join(others[:3])}{' and more' if others[3:] else ''}, which the catalog does not"
                " sell: they would pay and have no access",
                "Take these products out of it, or sell them as plans",
            )
        yield (
            "switch at once, with a proration, where onelane switches at the period's end",
            "Switch off plan changes there",
        )
    if "quantity" in allowed and any(plan.max_quantity == 1 for plan in catalog.plans.values()):
        yield "change the quantity of plans that are sold once each", "Switch off changes of the quantity there"
