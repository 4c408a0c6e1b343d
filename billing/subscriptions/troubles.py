"""What is wrong with a customer's live subscriptions of ours, as far as a person has to look at it. Pure.

Each trouble is an incident while it lasts: opened, kept up to date and resolved by the sync that sees it (SUB-8,
SUB-74, SUB-75, SUB-120). Its next step is the sentence that an operator reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from billing.subscriptions.projection import Subscription, is_live

DUPLICATE = "duplicate_subscription"
NOT_SOLD = "subscription_not_sold"
UNOWNED = "subscription_unowned"
SEVERAL_PLANS = "subscription_with_several_plans"
KINDS = (DUPLICATE, NOT_SOLD, UNOWNED, SEVERAL_PLANS)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble, the subscriptions that have it, and what to do; None where the remedy says it."""

    kind: str
    subscriptions: tuple[str, ...]
    next_step: str | None = None


def find_troubles(
    rows: Iterable[Subscription],
    *,
    product: str,
    is_owned: bool,
    is_erased: bool = False,
    plans: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Sequence[Trouble]:
    """The troubles of one customer. `is_owned`: whether a user of ours has this Stripe customer; `is_erased`: had.

    `plans` are the prices of plans that a subscription bills, by its id.
    """
    live = sorted(
        (row for row in rows if row.product == product and is_live(row.status)), key=lambda row: row.subscription_id
    )
    if not live:
        return ()
    ids = tuple(row.subscription_id for row in live)
    found = [Trouble(DUPLICATE, ids)] if len(live) > 1 else []
    if not_sold := [row for row in live if row.plan is None]:
        found.append(Trouble(NOT_SOLD, tuple(row.subscription_id for row in not_sold), _not_sold(not_sold)))
    if several := [id_ for id_ in ids if len(plans.get(id_, ())) > 1]:
        found.append(Trouble(SEVERAL_PLANS, tuple(several), _several([*chain(*(plans[id_] for id_ in several))])))
    if is_erased:
        found.append(Trouble(UNOWNED, ids, _of_erased(live)))
    elif not is_owned:
        found.append(Trouble(UNOWNED, ids, _unowned(live)))
    return found


def _not_sold(rows: Sequence[Subscription]) -> str:
    prices = ", ".join(sorted({row.price_id or "no price" for row in rows}))
    return (
        f"It has our tag and gives no access: the catalog does not sell {prices}. Name the price in a plan's"
        " former_prices (or its product as stripe_product), or change or cancel the subscription at Stripe."
    )


def _several(prices: Sequence[str]) -> str:
    return (
        f"It bills several prices of the product's plans at once: {', '.join(prices)}. Its buyer sees one of them. Take"
        " out at Stripe what should not be billed, and pay back what was."
    )


def _unowned(rows: Sequence[Subscription]) -> str:
    return (
        f"No user has the Stripe customer {rows[0].customer_id}, who pays for it without access. Find out who that is"
        " and name them (PUT /v1/customers/{user_id}, or onelane customers import), or cancel it and pay it back."
    )


def _of_erased(rows: Sequence[Subscription]) -> str:
    return (
        f"The user of the Stripe customer {rows[0].customer_id} was erased, and it bills again, without access. Cancel"
        " it at Stripe and pay it back."
    )
