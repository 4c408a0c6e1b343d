"""A customer that Stripe has deleted: its last changes are written, then its user is free for another one (CHK-17)."""

import structlog

from billing.customers import store as customers_store
from billing.errors import StripeMissing
from billing.subscriptions.context import Context
from billing.subscriptions.sync import sync_customer

log = structlog.get_logger(__name__)


def release_deleted(user_id: str, customer_id: str, ctx: Context) -> bool:
    """Release a customer that Stripe has deleted from its user; whether it is not theirs any more (CHK-17).

    Deletion is final and cancels every subscription. The last sync here sends these changes to the application while
    the ledger still knows the user. A customer that Stripe never had is an import's mistake, behind which a live
    subscription may exist: that is left to a person. Raises the gateway's errors.
    """
    try:
        deleted = ctx.stripe.get_customer(customer_id).get("deleted") is True
    except StripeMissing:
        deleted = False
    if not deleted:
        return False
    sync_customer(customer_id, ctx)
    with ctx.database.write() as connection:
        if customers_store.release(connection, user_id, customer_id):
            log.warning("customer.released", customer_id=customer_id, reason="deleted at Stripe")
        row = customers_store.read_customer(connection, user_id)
    return row is not None and row.customer_id != customer_id
