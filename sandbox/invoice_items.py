"""Invoice items: an amount that waits for the customer's next invoice, or stands on a draft; so do prorations."""

from collections.abc import Sequence

from . import balances, discounts, forms, tax_rates
from .amounts import Line, of_price
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page
from .resources import retrieve, same


def create(call: Call, params: Json) -> Json:
    """From an amount or a price, for a customer and, if named, one of their subscriptions or drafts."""
    forms.require(params, "customer")
    customer = balances.alive(call, params["customer"])
    pricing = params.get("pricing") or {}
    if (params.get("amount") is None) == (pricing.get("price") is None):
        raise bad_parameter("You must pass exactly one of amount or pricing[price].", "amount")
    subscription = params.get("subscription")
    if subscription:
        call.named("subscription", subscription, param="subscription")
    price = call.named("price", pricing["price"], param="pricing[price]") if pricing.get("price") else None
    quantity = params.get("quantity") or 1
    currency = (price["currency"] if price else params.get("currency") or customer["currency"] or "usd").lower()
    if price and price["recurring"]:
        raise refused(
            "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.",
            param="pricing[price]",
        )
    balances.bound(call, customer, currency, "currency")
    period = params.get("period") or {}
    if params.get("invoice") and call.named("invoice", params["invoice"], param="invoice")["status"] != "draft":
        raise refused("The invoice is no longer editable.", code="invoice_not_editable", param="invoice")
    return pending(
        call,
        customer["id"],
        subscription,
        of_price(price, quantity) if price else params["amount"] * (params.get("quantity") or 1),
        currency,
        price=price,
        quantity=quantity,
        start=period.get("start") or call.now,
        end=period.get("end") or call.now,
        description=params.get("description"),
        invoice=params.get("invoice"),
        metadata=params.get("metadata"),
        rates=tax_rates.wanted(call, params.get("tax_rates"), "tax_rates"),
        found=discounts.wanted(call, params.get("discounts"), "discounts", currency),
    )


def pending(
    call: Call,
    customer: str,
    subscription: str | None,
    amount: int,
    currency: str,
    *,
    price: Json | None = None,
    quantity: int | None = 1,
    start: int,
    end: int,
    description: str | None,
    invoice: str | None = None,
    metadata: Json | None = None,
    proration: bool = False,
    rates: Sequence[Json] = (),
    found: Sequence[Json] = (),
) -> Json:
    """One item, announced. It is billed with the next invoice, or with `invoice`."""
    id = call.store.new_id("ii_1")
    one = {
        "id": id,
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": call.now,
        "description": description,
        "discountable": not proration,
        "discounts": discounts.made(call, list(found), customer, subscription or ""),
        "invoice": invoice,
        "livemode": call.livemode,
        "metadata": forms.merge_metadata({}, metadata),
        "net_amount": amount,
        "parent": {
            "subscription_details": {"subscription": subscription, "subscription_item": None},
            "type": "subscription_details",
        }
        if subscription
        else None,
        "period": {"end": end, "start": start},
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        }
        if price
        else None,
        "proration": proration,
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "tax_rates": list(rates),
        "test_clock": call.test_clock,
    }
    emit(call, "invoiceitem.created", call.store.put("invoiceitem", one))
    return one


def waiting(call: Call, customer: str, subscription: str | None) -> list[Json]:
    """What the next invoice takes along: of a subscription its own items and those of no subscription."""
    return [
        one
        for one in reversed(list(call.store.newest_first("invoiceitem", customer=customer)))
        if one["invoice"] is None and _subscription(one) in (None, subscription)
    ]


def lines(call: Call, found: Sequence[Json]) -> list[Line]:
    return [
        Line(
            one["id"],
            call.store.get("price", one["pricing"]["price_details"]["price"]) if one["pricing"] else None,
            one["quantity"],
            one["amount"],
            one["period"]["start"],
            one["period"]["end"],
            one["description"] or "Invoice item",
            discounts.offs(call, one["discounts"]),
            tuple(one["tax_rates"]),
            one["proration"],
            one["metadata"],
        )
        for one in found
    ]


def billed(call: Call, found: Sequence[Json], invoice: str) -> None:
    for one in found:
        call.store.change("invoiceitem", one["id"], invoice=invoice)


def delete(call: Call, params: Json) -> Json:
    one = call.named("invoiceitem", params["id"])
    if one["invoice"] is not None:
        raise refused("You can only delete invoice items that are not attached to an invoice.")
    call.store.remove("invoiceitem", one["id"])
    emit(call, "invoiceitem.deleted", one)
    return {"id": one["id"], "object": "invoiceitem", "deleted": True}


def _subscription(one: Json) -> str | None:
    return one["parent"]["subscription_details"]["subscription"] if one["parent"] else None


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/invoiceitems",
        {
            "amount": forms.integer(),
            "currency": forms.text(3),
            "customer": forms.identifier,
            "description": forms.text(),
            "discounts": discounts.PARAMETER,
            "invoice": forms.text(),
            "metadata": forms.metadata,
            "period": forms.table({"end": forms.moment, "start": forms.moment}),
            "pricing": forms.table({"price": forms.identifier}),
            "quantity": forms.integer(0),
            "subscription": forms.text(),
            "tax_rates": tax_rates.PARAMETER,
        },
        create,
    ),
    (
        "GET",
        "/v1/invoiceitems",
        {
            **PAGING,
            "created": forms.created,
            "customer": forms.text(),
            "invoice": forms.text(),
            "pending": forms.boolean,
        },
        lambda call, params: page(
            call,
            "invoiceitem",
            params,
            "/v1/invoiceitems",
            customer=params.get("customer"),
            keep=lambda one: same(one, params, "invoice") and params.get("pending") in (None, one["invoice"] is None),
        ),
    ),
    ("GET", "/v1/invoiceitems/{id}", {}, retrieve("invoiceitem")),
    ("DELETE", "/v1/invoiceitems/{id}", {}, delete),
]
