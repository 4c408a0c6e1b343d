"""Objects that exist from the start, with ids that others name: what `POST /_sandbox/seed` is given.

A short description is enough (`{"object": "price", "id": "price_x", "unit_amount": 900, "recurring": {...}}`);
the rest is filled in as if it had been created here. A customer's `card` (`pm_card_visa`) is its default one. Planting
the same again changes nothing.
"""

from collections.abc import Callable, Iterable

from . import coupons, customers, prices, products, tax_rates
from .calls import Call
from .errors import ApiError, Json
from .payment_objects import new_card

_MADE: dict[str, Callable[[Call, Json], Json]] = {
    "product": products.product_fields,
    "price": prices.price_fields,
    "coupon": coupons.coupon_fields,
    "tax_rate": tax_rates.fields,
}
_DERIVED = ("recurring", "unit_amount_decimal", "type", "currency_options")  # of a price
_OTHERS = {
    "charge": "charge",
    "checkout.session": "checkout_session",
    "invoice": "invoice",
    "invoice_payment": "invoice_payment",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "subscription": "subscription",
}


def plant(call: Call, objects: Iterable[Json]) -> int:
    count = 0
    for given in objects:
        if not isinstance(given, dict) or not isinstance(given.get("id"), str) or not given["id"]:
            raise ApiError(400, "Every seeded object needs an `id` and an `object`.")
        _plant_one(call, given)
        count += 1
    return count


def _plant_one(call: Call, given: Json) -> None:
    name = given.get("object")
    if name == "customer":
        card = given.get("card")
        _put(call, "customer", {key: value for key, value in given.items() if key != "card"}, customers.blank(call))
        if card and not call.named("customer", given["id"])["invoice_settings"]["default_payment_method"]:
            _plant_card(call, given["id"], card)
    elif name in _MADE:
        if name == "price":
            given = _with_product(call, given)
        _put(call, name, _typed(name, given), _MADE[name](call, given))
    elif name in _OTHERS:
        _put(call, _OTHERS[name], given, {"created": call.now, "livemode": call.livemode, "metadata": {}})
    else:
        known = ", ".join(sorted([*_MADE, *_OTHERS, "customer"]))
        raise ApiError(400, f"Cannot seed {name!r}; known: {known}.", param="object")


def _plant_card(call: Call, customer: str, token: str) -> None:
    """The customer's default card, without an event."""
    one = call.named("customer", customer)
    card = new_card(call, one, card=token)
    call.store.change(
        "customer", customer, invoice_settings={**one["invoice_settings"], "default_payment_method": card["id"]}
    )


def _put(call: Call, kind: str, given: Json, made: Json) -> None:
    old = call.store.get(kind, given["id"])
    call.store.put(kind, {**(old or made), **given})


def _with_product(call: Call, given: Json) -> Json:
    """A price needs a product: one that is not there is made, so that the order of the seeds does not matter."""
    product = given.get("product") or "prod_of_" + given["id"].removeprefix("price_")
    if call.store.get("product", product) is None:
        call.store.put("product", products.product_fields(call, {"id": product, "name": given.get("nickname")}))
    return {**given, "product": product}


def _typed(name: str, given: Json) -> Json:
    """The fields that creation derives are not taken from the description."""
    if name == "price":
        return {key: value for key, value in given.items() if key not in _DERIVED}
    return given
