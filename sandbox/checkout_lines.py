"""What a checkout session sells: its lines, its coupon, and how much of the first period is due."""

from fractions import Fraction

from . import discounts, forms, tax_rates
from .amounts import Amounts, Line, Off, exclusive, of_price, worked_out
from .calls import Call
from .errors import Json, bad_parameter
from .period_lines import product_of
from .periods import first_share
from .subscription_parameters import trial_end


def due_share(call: Call, price: Json, data: Json) -> Fraction:
    """How much of the first period this session bills: all of it, unless a trial or a later anchor says otherwise."""
    if price["recurring"] is None:
        return Fraction(1)
    return first_share(
        call.now,
        price["recurring"],
        trial_end=trial_end(call, data, "subscription_data[{}]"),
        anchor=data.get("billing_cycle_anchor"),
        prorated=data.get("proration_behavior") != "none",
    )


def discounts_of(call: Call, sent: list[Json], currency: str) -> list[Json]:
    """[{coupon}] of a session: at most one."""
    if len(sent) > 1:
        raise bad_parameter("You may only apply one discount to a Checkout Session.", "discounts")
    return discounts.wanted(call, sent, "discounts", currency)


def lines(call: Call, wanted: list[Json], coupon: Json | None, data: Json) -> tuple[list[Json], list[Json]]:
    """The session's line items, and what of each is due today: {subtotal, off, tax}."""
    rates = tax_rates.wanted(call, data.get("default_tax_rates"), "subscription_data[default_tax_rates]")
    offs = [Off("of_the_session", coupon)] if coupon else []
    whole, today = (
        worked_out([_priced(call, each, share, rates) for each in wanted], offs)
        for share in (Fraction(1), due_share(call, wanted[0]["price"], data))
    )
    now = due_share(call, wanted[0]["price"], data)
    due = [_sums(of_price(each["price"], each["quantity"], now), one)
           for each, one in zip(wanted, today, strict=True)]  # fmt: skip
    shown = [
        _line(call, each, _sums(of_price(each["price"], each["quantity"]), one))
        for each, one in zip(wanted, whole, strict=True)
    ]
    return shown, due


def _priced(call: Call, wanted: Json, share: Fraction, rates: list[Json]) -> Line:
    price, quantity = wanted["price"], wanted["quantity"]
    amount = of_price(price, quantity, share)
    return Line(None, price, quantity, amount, 0, 0, "", (), tuple(wanted["tax_rates"] or rates))


def _sums(subtotal: int, amounts: Amounts) -> Json:
    off = sum(amounts.off.values())
    tax = sum(one.amount for one in amounts.taxes)
    return {"subtotal": subtotal, "off": off, "tax": tax, "total": subtotal - off + exclusive(amounts.taxes)}


def _line(call: Call, wanted: Json, sums: Json) -> Json:
    price = wanted["price"]
    return {
        "id": call.store.new_id("li_1"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": sums["off"],
        "amount_subtotal": sums["subtotal"],
        "amount_tax": sums["tax"],
        "amount_total": sums["total"],
        "currency": price["currency"],
        "description": product_of(call, price),
        "metadata": forms.merge_metadata({}, wanted["metadata"]),
        "price": price,
        "quantity": wanted["quantity"],
        "_tax_rates": wanted["tax_rates"],
    }
