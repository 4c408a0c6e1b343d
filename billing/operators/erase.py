"""Erase: remove what is personal about a user, for good; ids, states and times stay as a tombstone.

1 refuse a user whom Stripe still bills (SUB-52)  2 mark the user and close their lane, in one commit: from here on late
events are recorded without payload, and requests are refused (SUB-51, SUB-55)  3 expire their payment page (SUB-53)
4 check again: a user who paid it meanwhile is not erased  5 delete their customer at Stripe, on request (SUB-56)
6 remove the data, a small batch in a transaction, table by table  7 note the end.
After an interruption it is run again; what is removed is not found any more (SUB-54).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from billing.checkout.close import close_lane, verify_closed
from billing.checkout.context import Context
from billing.checkout.verify import Blocker
from billing.customers.customers import adopt_made
from billing.customers.store import open_customer, open_lane, read_customer
from billing.errors import PermanentError, StripeMissing, StripeRefused
from billing.operators import erasure_store
from billing.operators.erasure_store import Holdings
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.projection import begins_ours, belongs, is_live

log = structlog.get_logger(__name__)

# 200 rows, payloads being the largest: a few milliseconds, so that deliveries and buyers do not wait for it.
BATCH = 200


class NotErasable(PermanentError):
    """The user may still be billed, so they are not erased. The sentence says what to do first."""

    code = "not_erasable"


@dataclass(frozen=True, slots=True)
class Found:
    """The data of a user; `live` are the subscriptions that prevent erasing."""

    customer_ids: Sequence[str]
    holdings: Holdings
    live: Sequence[str]


def count_holdings(user_id: str, ctx: Context, *, delete_at_stripe: bool) -> Found:
    """What erasing would remove, and what prevents it; nothing is changed.

    Raises NotErasable and the gateway's errors.
    """
    with ctx.database.read() as connection:
        row = read_customer(connection, user_id)
        # A user with a product trial and no checkout has a trial only.
        if row is None and not erasure_store.has_trial(connection, user_id):
            raise NotErasable("This ledger has no user of that id: nothing personal is kept of them.")
        customer_ids = erasure_store.customers_of(connection, user_id)
        holdings = erasure_store.count(connection, user_id, customer_ids)
    ours_only = not delete_at_stripe
    live = [id_ for customer_id in customer_ids for id_ in _live(customer_id, ctx, ours_only=ours_only)]
    return Found(customer_ids, holdings, live)


def erase_user(
    user_id: str,
    ctx: Context,
    *,
    reason: str,
    delete_at_stripe: bool,
    progress: Callable[[int], None] = lambda rows: None,
) -> Holdings:
    """Erase a user, or continue an interrupted erasure; what was removed. `progress` is called with each batch's rows.

    Raises NotErasable, the gateway's errors and LedgerUnavailable.
    """
    found = count_holdings(user_id, ctx, delete_at_stripe=delete_at_stripe)
    if found.live:  # 1
        raise _still_billed(user_id, found.live, ctx)
    with ctx.database.write() as connection:
        open_customer(
            connection, user_id=user_id, email=None, now=ctx.clock.now()
        )  # where there is none: the tombstone
        lane_id = open_lane(connection, user_id=user_id, product=ctx.catalog.product)
    with ctx.database.write() as connection:  # 2
        turned_away = erasure_store.mark(connection, user_id, lane_id, reason=reason, now=ctx.clock.now())
    ctx.wakeups.wake(turned_away)
    customer_ids = _settle(user_id, lane_id, ctx)  # 3, 4
    if delete_at_stripe:  # 5
        _delete(user_id, customer_ids, ctx)
    removed = Holdings()
    while (batch := _remove(user_id, customer_ids, ctx)).rows:  # 6
        removed += batch
        progress(batch.rows)
    with ctx.database.write() as connection:  # 7
        erasure_store.finish(connection, user_id, now=ctx.clock.now())
    # The customer's id, not the user's: user ids may be email addresses.
    log.warning("user.erased", customer_ids=list(customer_ids), reason=reason, **removed.as_dict())
    return removed


def _settle(user_id: str, lane_id: int, ctx: Context) -> Sequence[str]:
    """Steps 3 and 4: no page of theirs can be paid any more, and none was paid; their customers' ids at Stripe."""
    close_lane(lane_id, ctx)
    with ctx.database.read() as connection:
        row = read_customer(connection, user_id)
    assert row is not None, "a user is never deleted"
    adopt_made(row, database=ctx.database, stripe=ctx.stripe, clock=ctx.clock)
    with ctx.database.read() as connection:
        customer_ids = erasure_store.customers_of(connection, user_id)
    for customer_id in customer_ids:
        if (blocker := _blocker(lane_id, customer_id, ctx)) is not None:
            raise _still_billed(user_id, [blocker.subscription_id or "a payment that is on its way"], ctx)
    return customer_ids


def _blocker(lane_id: int, customer_id: str, ctx: Context) -> Blocker | None:
    try:
        return verify_closed(lane_id, customer_id, ctx).blocker
    except StripeRefused:
        if _is_gone(customer_id, ctx.stripe):
            return None  # Stripe has deleted the customer, and everything that could bill them
        raise


def _live(customer_id: str, ctx: Context, *, ours_only: bool) -> list[str]:
    """What bills them, and what will: subscriptions that live, and schedules that begin one later."""
    listed: list[dict[str, Any]] = or_none(ctx.stripe.list_subscriptions, customer_id) or []
    coming: list[dict[str, Any]] = or_none(ctx.stripe.list_coming_schedules, customer_id) or []
    live = [subscription for subscription in listed if is_live(str(subscription.get("status")))]
    ids = [str(subscription["id"]) for subscription in live if not ours_only or belongs(subscription, ctx.catalog)]
    return ids + [str(one["id"]) for one in coming if not ours_only or begins_ours(one, ctx.catalog)]


def _still_billed(user_id: str, subscriptions: Sequence[str], ctx: Context) -> NotErasable:
    """The refusal. A user who was marked, and of whom nothing was removed yet, is served again."""
    with ctx.database.write() as connection:
        as_before = erasure_store.unmark(connection, user_id)
    billed = f"This user is still billed: {', '.join(subscriptions)}."
    if as_before:
        return NotErasable(
            f"{billed} Nothing was erased. Cancel it first: at once in Stripe's Dashboard, or at its period's end by"
            " POST /v1/subscription/cancel. When it is over, run this again."
        )
    return NotErasable(
        f"{billed} An earlier run has removed data already, so they stay erased; this one removed nothing. Cancel it at"
        " once in Stripe's Dashboard and run this again. To let it live, if it is of another product, run this without"
        " --delete-at-stripe."
    )


def _delete(user_id: str, customer_ids: Sequence[str], ctx: Context) -> None:
    """Step 5. Deleting cancels live subscriptions of every product, so they are listed once more right before."""
    for customer_id in customer_ids:
        if live := _live(customer_id, ctx, ours_only=False):
            raise _still_billed(user_id, live, ctx)
        try:
            ctx.stripe.delete_customer(customer_id)
        except StripeMissing:
            continue
        except StripeRefused:
            if not _is_gone(customer_id, ctx.stripe):
                raise


def _is_gone(customer_id: str, stripe: StripeGateway) -> bool:
    customer = or_none(stripe.get_customer, customer_id)
    return customer is None or bool(customer.get("deleted"))


def _remove(user_id: str, customer_ids: Sequence[str], ctx: Context) -> Holdings:
    with ctx.database.write() as connection:
        return erasure_store.forget_some(connection, user_id, customer_ids, limit=BATCH)
