"""Objects that exist from the start, with ids that others name: what `POST /_sandbox/seed` is given.

A short description is enough (`{"object": "price", "id": "price_x", "unit_amount": 900, "recurring": {...}}`);
the rest is filled in as if it had been created here. Planting the same again changes nothing.
"""

from collections.abc import Callable, Iterable

from . import coupons, customers, prices, products
from .calls import Call
from .errors import ApiError, Json

_MADE: dict[str, Callable[[Call, Json], Json]] = {
    "product": products.product_fields,
    "price": prices.price_fields,
    "coupon": coupons.coupon_fields,
}
_OTHERS = {
    "charge": "charge",
    "checkout.session": "checkout_session",
    "invoice": "invoice",
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
        _put(call, "customer", given, customers.blank(call))
    elif name in _MADE:
        if name == "price":
            given = _with_product(call, given)
        _put(call, name, _typed(name, given), _MADE[name](call, given))
    elif name in _OTHERS:
        _put(call, _OTHERS[name], given, {"created": call.now, "livemode": call.livemode, "metadata": {}})
    else:
        known = ", ".join(sorted([*_MADE, *_OTHERS, "customer"]))
        raise ApiError(400, f"Cannot seed {name!r}; known: {known}.", param="object")


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
        return {key: value for key, value in given.items() if key not in ("recurring", "unit_amount_decimal", "type")}
    return given
