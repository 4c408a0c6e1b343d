"""The lines of a subscription's invoice: its items over the periods that begin, and what a change in between costs."""

from collections.abc import Sequence
from fractions import Fraction

from . import discounts
from .amounts import Line, of_price, rounded, taken_off
from .calls import Call
from .errors import Json

WHOLE = Fraction(1)


def of_period(call: Call, subscription: Json, items: Sequence[Json], share: Fraction = WHOLE) -> list[Line]:
    """A line for each of these items, for a share of its period."""
    return [_line(call, subscription, item, share) for item in items]


def _line(call: Call, subscription: Json, item: Json, share: Fraction) -> Line:
    price, quantity = item["price"], item.get("quantity")
    name = product_of(call, price)
    words = f"{name}: nothing due yet" if share == 0 else name if quantity is None else f"{quantity} x {name}"
    return Line(
        item["id"],
        price,
        quantity,
        of_price(price, quantity, share),
        item["current_period_start"],
        item["current_period_end"],
        words,
        discounts.offs(call, item["discounts"]),
        tuple(item["tax_rates"] or subscription["default_tax_rates"]),
        part=0 < share < 1,
    )


def product_of(call: Call, price: Json) -> str:
    return str((call.store.get("product", price["product"]) or {"name": "Subscription"})["name"])


def prorations(call: Call, old: Json, after: Json, *, at: int, begun: frozenset[str] = frozenset()) -> list[Line]:
    """What a change of items costs or gives back for the rest of the period, discounts included.

    Of an item that begins a period, only the unused rest of the old one is given back: the new one is billed in full.
    """
    before = {item["id"]: item for item in old["items"]["data"]}
    now = {item["id"]: item for item in after["items"]["data"]}
    lines = []
    for id in {**before, **now}:
        was, becomes = before.get(id), now.get(id)
        if was and becomes and _same(was, becomes) and id not in begun:
            continue
        if was:
            lines.append(_rest(call, old, was, at, was, sign=-1))
        if becomes and id not in begun:
            lines.append(_rest(call, after, becomes, at, was or becomes, sign=1))
    return [line for line in lines if line.amount]


def _same(was: Json, becomes: Json) -> bool:
    return bool(was["price"]["id"] == becomes["price"]["id"] and was.get("quantity") == becomes.get("quantity"))


def _rest(call: Call, subscription: Json, item: Json, at: int, period: Json, *, sign: int) -> Line:
    start, end = period["current_period_start"], period["current_period_end"]
    left = Fraction(max(0, end - at), max(1, end - start))
    full = of_price(item["price"], item.get("quantity"))
    for off in (*discounts.offs(call, item["discounts"]), *discounts.offs(call, subscription["discounts"])):
        full -= taken_off(off.coupon, [full])[0]
    words = "Unused time on" if sign < 0 else "Remaining time on"
    return Line(
        item["id"],
        item["price"],
        item.get("quantity"),
        sign * rounded(full * left),
        at,
        end,
        f"{words} {product_of(call, item['price'])}",
        (),
        tuple(item["tax_rates"] or subscription["default_tax_rates"]),
        proration=True,
    )
