"""What a checkout session sells: its lines, its coupon, and how much of the first period is due."""

from fractions import Fraction

from . import coupons
from .calls import Call
from .errors import Json, bad_parameter
from .periods import first_share


def trial_end(call: Call, data: Json) -> int | None:
    if data.get("trial_end"):
        return int(data["trial_end"])
    days = data.get("trial_period_days")
    return call.now + days * 86400 if days else None


def due_share(call: Call, price: Json, data: Json) -> Fraction:
    """How much of the first period this session bills: all of it, unless a trial or a later anchor says otherwise."""
    if price["recurring"] is None:
        return Fraction(1)
    return first_share(
        call.now,
        price["recurring"],
        trial_end=trial_end(call, data),
        anchor=data.get("billing_cycle_anchor"),
        prorated=data.get("proration_behavior") != "none",
    )


def only_coupon(call: Call, discounts: list[Json]) -> Json | None:
    if len(discounts) > 1:
        raise bad_parameter("You may only apply one discount to a Checkout Session.", "discounts")
    for each in discounts:
        if each.get("coupon"):
            return coupons.redeemable(call, each["coupon"], "discounts[0][coupon]")
    return None


def line(call: Call, wanted: Json, coupon: Json | None) -> Json:
    price, quantity = wanted["price"], wanted["quantity"]
    subtotal, off = coupons.priced(price, quantity, coupon)
    product = call.store.get("product", price["product"]) or {"name": "A product"}
    return {
        "id": call.store.new_id("li_1"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": off,
        "amount_subtotal": subtotal,
        "amount_tax": 0,
        "amount_total": subtotal - off,
        "currency": price["currency"],
        "description": product["name"],
        "metadata": {},
        "price": price,
        "quantity": quantity,
    }
