"""Customers of ours whom Stripe bills in another currency than the catalog's: their next checkout is refused.

Stripe cannot be asked for them, so its newest customers are read, page by page, and compared with the ledger's.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator

import sqlalchemy as sa

from billing.customers.store import IS_ERASED
from billing.database import Database
from billing.doctor.finding import Finding, fine, warning
from billing.models import customers
from billing.rules.words import in_number
from billing.stripe_gateway import GatewayClient

MOST_PAGES = 10  # of 100 customers: some three seconds at Stripe
SHOWN = 3


def examine_currencies(sold: set[str], stripe: GatewayClient, *, database: Database) -> Iterator[Finding]:
    """One finding for each currency that is not among those sold in. Raises what the gateway and the ledger raise."""
    bound: dict[str, list[str]] = defaultdict(list)
    looked_at, after, more = 0, None, True
    while more and looked_at < MOST_PAGES * 100:
        page = stripe.page_customers(after=after)
        others = {
            str(one["id"]): str(one["currency"]) for one in page.items if one.get("currency") not in {None, *sold}
        }
        for customer_id in _ours(others, database):
            bound[others[customer_id]].append(customer_id)
        looked_at += len(page.items)
        after, more = (page.items[-1]["id"] if page.items else None), page.has_more
    ours = " and ".join(sorted(sold)).upper()
    for currency, found in sorted(bound.items()):
        named = f"{', '.join(found[:SHOWN])}{' and more' if found[SHOWN:] else ''}"
        are = in_number(len(found), "of our customers is", "of our customers are")
        yield warning(
            "currency",
            f"{are} billed in {currency.upper()}, and the catalog sells in {ours}: Stripe"
            f" may refuse their checkout (409 currency_mismatch). Sell a plan in {currency.upper()}, or end what still"
            f" bills them in it: {named}.",
        )
    if not bound:
        which = "newest" if more else "all there are"
        yield fine("currency", f"{in_number(looked_at, 'customer')} ({which}) can be billed in {ours}.")


def _ours(customer_ids: Collection[str], database: Database) -> list[str]:
    """Those of them that a user of ours has."""
    if not customer_ids:
        return []
    ours = sa.select(customers.c.customer_id).where(customers.c.customer_id.in_(customer_ids), sa.not_(IS_ERASED))
    with database.read() as connection:
        return [str(one) for one in connection.scalars(ours.order_by(customers.c.customer_id))]
