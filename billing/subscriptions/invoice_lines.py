"""The lines of an invoice: which of them bill the plan for a period, and which a change of it. Pure."""

from collections.abc import Mapping
from typing import Any

from billing.catalog import Catalog
from billing.subscriptions.stripe_fields import id_of

Json = Mapping[str, Any]

_PERIODIC = ("subscription_create", "subscription_cycle")


def plan_lines(invoice: Json, item: Json, catalog: Catalog) -> list[Json]:
    """The lines that bill the plan for a period; the rest of a period after a change is none.

    What a subscription began with is its first period, also where that is a part of one: billed up to a chosen day, or
    from a day in the past.
    """
    bills = is_of_plan if is_first(invoice) else _bills_plan
    return [line for line in lines_of(invoice) if bills(line, item, catalog)]


def lines_of(invoice: Json) -> list[Json]:
    """Every line that came with the invoice."""
    lines = (invoice.get("lines") or {}).get("data") or []
    return [line for line in lines if isinstance(line, Mapping)]


def is_first(invoice: Json) -> bool:
    """Whether a subscription began with it."""
    return invoice.get("billing_reason") == "subscription_create"


def _bills_plan(line: Json, item: Json, catalog: Catalog) -> bool:
    return is_of_plan(line, item, catalog) and not _of_item(line).get("proration")


def is_of_plan(line: Json, item: Json, catalog: Catalog) -> bool:
    """Whether it is for the plan's item, or for a price that is a plan's."""
    return bool(_of_item(line)) and (
        _of_item(line).get("subscription_item") == item.get("id")
        or catalog.plan_of_price(price_of(line)) is not None
        or id_of(sold_by(line).get("product"))
        in {plan.stripe_product for plan in catalog.plans.values() if plan.stripe_product}
    )


def _of_item(line: Json) -> Json:
    return (line.get("parent") or {}).get("subscription_item_details") or {}


def raises(invoice: Json, item: Json) -> bool:
    """Whether it takes money for a change to the price that the item has, or to more of it."""
    return any(_is_change(line) and price_of(line) == id_of(item.get("price")) for line in lines_of(invoice))


def _is_change(line: Json) -> bool:
    """Whether it takes money for the rest of a period, after a change of price or quantity."""
    parent = line.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    return bool(details.get("proration")) and (line.get("amount") or 0) > 0


def sold_by(line: Json) -> Json:
    """The price and the product of what was billed, by their ids."""
    return (line.get("pricing") or {}).get("price_details") or {}


def price_of(line: Json) -> str | None:
    """The id of the price that was billed."""
    return id_of(sold_by(line).get("price"))


def is_cut_off(invoice: Json) -> bool:
    """Whether the invoice has more lines than came with it, and is one for a period."""
    return bool((invoice.get("lines") or {}).get("has_more")) and invoice.get("billing_reason") in _PERIODIC
