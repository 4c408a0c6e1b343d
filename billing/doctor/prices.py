"""What the catalog sells, beside what Stripe has: each price, former price and coupon.

A price that differs is refused for every buyer, or sold as something else than the catalog shows.
"""

from collections.abc import Iterator
from typing import Any

from billing.catalog import Catalog, Plan
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.errors import StripeMissing
from billing.rules.words import in_number
from billing.stripe_gateway import GatewayClient

Json = dict[str, Any]


def examine_prices(
    catalog: Catalog, stripe: GatewayClient | None, *, currencies: set[str] | None = None
) -> Iterator[Finding]:
    """What is wrong with the plans; at the end, how many there are. `stripe` None: Stripe is not asked.

    Into `currencies` go those that the plans are sold in.
    """
    if stripe is not None:
        sold: list[set[str]] = []
        for plan in catalog.plans.values():
            try:
                price = stripe.get_price(plan.price)
            except StripeMissing:
                yield wrong("catalog", f"{plan.key}: Stripe has no price {plan.price} for this key. Set the right id.")
            else:
                sold.append({str(price.get("currency")), *(price.get("currency_options") or ())})
                yield from _price(plan, price)
            yield from _former_prices(plan, stripe)
            yield from _coupon(plan, stripe)
        every = set().union(*sold)
        if currencies is not None:
            currencies |= every
        if sold and not set.intersection(*sold):
            yield warning(
                "catalog",
                f"Plans are sold in {' and '.join(sorted(every))}, and Stripe keeps a subscription in one"
                " currency: a switch between them is refused. Sell them as products of their own.",
            )
    unchecked = "" if stripe else " Stripe was not asked."
    yield fine("catalog", f"{in_number(len(catalog.plans), 'plan')} of {catalog.product} read.{unchecked}")


def compare_prices(catalog: Catalog, stripe: GatewayClient) -> list[Json]:
    """Each plan's price as the catalog shows it and as Stripe has it, the same fields of both.

    `stripe` is None where Stripe has no such price. Raises what else the gateway raises.
    """
    return [_side_by_side(plan, stripe) for plan in catalog.plans.values()]


def _side_by_side(plan: Plan, stripe: GatewayClient) -> Json:
    ours = {name: getattr(plan, name) for name in ("amount", "currency", "interval", "interval_count", "metered")}
    try:
        price = stripe.get_price(plan.price)
    except StripeMissing:
        return {"plan": plan.key, "price": plan.price, "catalog": ours, "stripe": None}
    recurring = price.get("recurring") or {}
    theirs = {
        "amount": price.get("unit_amount"),
        "currency": price.get("currency"),
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "metered": recurring.get("usage_type") == "metered",
        "active": bool(price.get("active")),
    }
    return {"plan": plan.key, "price": plan.price, "catalog": ours, "stripe": theirs}


def _price(plan: Plan, price: Json) -> Iterator[Finding]:
    """What Stripe would refuse for every buyer, then what it would sell in another way than the catalog says."""
    about = f"{plan.key}: the price {plan.price}"
    recurring = price.get("recurring") or {}
    if not price.get("active"):
        yield wrong("catalog", f"{about} is archived at Stripe. Unarchive it, or set another.")
    if not recurring:
        yield wrong("catalog", f"{about} is paid once and not recurring. Set a recurring price.")
        return
    if (metered := recurring.get("usage_type") == "metered") != plan.metered:
        yield wrong("catalog", f"{about} {_METERED if metered else _LICENSED}")
    period = (recurring.get("interval"), recurring.get("interval_count", 1))
    if period != (plan.interval, plan.interval_count):
        yield wrong(
            "catalog",
            f"{about} is billed every {in_number(period[1], str(period[0]))}, the catalog says every"
            f" {in_number(plan.interval_count, plan.interval)}. Set interval and interval_count as at Stripe, or set"
            " another price.",
        )
    currency = price.get("currency")
    if plan.currency not in (None, currency):
        yield wrong(
            "catalog", f'{about} is in {currency}, the catalog shows {plan.currency}. Set currency = "{currency}".'
        )
    elif plan.amount is not None and price.get("unit_amount") != plan.amount:
        yield warning(
            "catalog", f"{about} takes {price.get('unit_amount')}, the catalog shows {plan.amount}. Set amount to it."
        )
    if plan.stripe_product not in (None, price.get("product")):
        yield warning(
            "catalog",
            f"{about} belongs to {price.get('product')}, and stripe_product is {plan.stripe_product}."
            f' Set stripe_product = "{price.get("product")}".',
        )


_METERED = (
    "is metered at Stripe, and the plan sends a quantity, which Stripe refuses for every buyer. Set metered = true in"
    " the plan, or set a licensed price."
)
_LICENSED = (
    "is not metered at Stripe, and the plan is sold without a quantity, which Stripe refuses for every buyer. Take"
    " metered = true out of the plan, or set a metered price."
)


def _former_prices(plan: Plan, stripe: GatewayClient) -> Iterator[Finding]:
    for price_id in plan.former_prices:
        try:
            stripe.get_price(price_id)
        except StripeMissing:
            yield wrong(
                "catalog",
                f"{plan.key}: Stripe has no price {price_id} of former_prices for this key: who pays the one that is"
                " meant has no access. Set the right id.",
            )


def _coupon(plan: Plan, stripe: GatewayClient) -> Iterator[Finding]:
    if not plan.coupon:
        return
    try:
        coupon = stripe.get_coupon(plan.coupon)
    except StripeMissing:
        yield wrong("catalog", f"{plan.key}: Stripe has no coupon {plan.coupon}. Set the right id.")
    else:
        if not coupon.get("valid"):
            yield wrong("catalog", f"{plan.key}: the coupon {plan.coupon} is not valid any more. Set another.")
        if plan.coupon_amount_off not in (None, coupon.get("amount_off")):
            takes = coupon.get("amount_off") or f"{coupon.get('percent_off')} percent"
            yield warning(
                "catalog",
                f"{plan.key}: the coupon {plan.coupon} takes off {takes}, the catalog shows {plan.coupon_amount_off}."
                " Set coupon_amount_off to it, or leave it out.",
            )
