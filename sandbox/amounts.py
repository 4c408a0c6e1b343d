"""What an invoice comes to: its lines, what coupons take off them, and the tax on the rest. Pure, in cents.

A percentage is taken off each line. A fixed amount is taken off once: it is spread over the lines in proportion, so
300 off two lines of 1,000 leaves 1,700.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from .errors import Json


@dataclass(frozen=True)
class Off:
    """A discount on an invoice or on one of its lines: the discount's id and its coupon."""

    id: str
    coupon: Json


@dataclass(frozen=True)
class Line:
    """One price over one period. `quantity` is None for a metered price."""

    item: str | None  # a subscription item, or an invoice item
    price: Json | None
    quantity: int | None
    amount: int
    start: int
    end: int
    description: str
    offs: tuple[Off, ...] = ()
    tax_rates: tuple[Json, ...] = ()
    proration: bool = False
    part: bool = False  # of a subscription's first period: a proration, too, but its discount is still to come
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Taxed:
    """A tax rate on one line. What is inclusive is part of the line's amount already."""

    rate: Json
    amount: int
    taxable: int


@dataclass(frozen=True)
class Amounts:
    """What is taken off a line by each discount id, and its taxes."""

    off: dict[str, int]
    taxes: tuple[Taxed, ...]


def of_price(price: Json, quantity: int | None, share: Fraction = Fraction(1)) -> int:
    """A price for a share of its period. A metered one has no usage here, so nothing is due."""
    return rounded(price["unit_amount"] * (quantity or 0) * share)


def rounded(amount: Fraction) -> int:
    """To whole cents, halves away from zero."""
    return int(amount + Fraction(1, 2)) if amount >= 0 else -int(-amount + Fraction(1, 2))


def worked_out(lines: Sequence[Line], offs: Sequence[Off] = ()) -> list[Amounts]:
    """A line's own discounts come first, those of the whole invoice after them, tax on what is left."""
    taken: list[dict[str, int]] = [{} for _ in lines]
    left = [line.amount for line in lines]
    for index, line in enumerate(lines):
        for off in line.offs:
            _take(off, [index], left, taken)
    whole = [index for index, line in enumerate(lines) if not line.proration]  # a proration has its discount in it
    for off in offs:
        _take(off, whole, left, taken)
    return [
        Amounts(taken[index], tuple(_taxed(rate, left[index]) for rate in line.tax_rates))
        for index, line in enumerate(lines)
    ]


def _take(off: Off, where: Sequence[int], left: list[int], taken: list[dict[str, int]]) -> None:
    shares = taken_off(off.coupon, [left[index] for index in where])
    for index, amount in zip(where, shares, strict=True):
        left[index] -= amount
        taken[index][off.id] = amount


def taken_off(coupon: Json, amounts: Sequence[int]) -> list[int]:
    """What a coupon takes off each of these amounts; nothing off a credit, and never more than there is."""
    positive = [max(0, amount) for amount in amounts]
    if coupon["percent_off"] is not None:
        return [rounded(amount * Fraction(str(coupon["percent_off"])) / 100) for amount in positive]
    total = sum(positive)
    most = min(total, coupon["amount_off"] or 0)
    shares, given, before = [], 0, 0
    for amount in positive:  # each takes what the running total lacks, so the shares add up to the cent
        before += amount
        share = rounded(Fraction(most * before, total)) - given if total else 0
        given += share
        shares.append(share)
    return shares


def _taxed(rate: Json, amount: int) -> Taxed:
    percent = Fraction(str(rate["percentage"]))
    if rate["inclusive"]:
        tax = rounded(amount * percent / (100 + percent))
        return Taxed(rate, tax, amount - tax)
    return Taxed(rate, rounded(amount * percent / 100), amount)


def exclusive(taxes: Sequence[Taxed]) -> int:
    """What the taxes add to the amount."""
    return sum(one.amount for one in taxes if not one.rate["inclusive"])
