"""One Stripe customer per user, however many first checkouts come at once (CHK-8).

The row with its own idempotency key is committed before POST /v1/customers, so everybody who creates sends
the same key and parameters. An existing customer comes in by `claim_customer` (the import and PUT).
"""

import re
from datetime import timedelta

from billing import customer_ledger
from billing.clock import Clock
from billing.customer_ledger import CustomerRow
from billing.database import Database
from billing.errors import CustomerTaken, InvalidRequest, StripeSavedFailure, StripeUnclear
from billing.stripe_gateway import StripeGateway

CUSTOMER_ID = re.compile(r"cus_[A-Za-z0-9_]{1,250}")
# Stripe keeps keys for at least 24 h: an older one might create a second customer.
KEY_LIFETIME = timedelta(hours=23)


def ensure_customer(user_id: str, *, database: Database, stripe: StripeGateway, clock: Clock) -> str:
    """The user's Stripe customer, created when there is none. Raises StripeUnclear and the gateway's errors."""
    with database.write() as connection:
        row = customer_ledger.read_customer(connection, user_id)
        assert row is not None, "a lane's user has a row"  # the foreign key says so
        if row.customer_id is None:
            customer_ledger.requested(connection, user_id, now=clock.now())  # the write-ahead
    if row.customer_id is not None:
        return row.customer_id
    if row.requested_at is not None and row.requested_at < clock.now() - KEY_LIFETIME:
        made = _look_for(row, stripe=stripe, clock=clock) or _start_anew(row, database=database)
    else:
        made = _create(row, database=database, stripe=stripe, clock=clock)
    with database.write() as connection:
        customer_ledger.give(connection, row, made)
        settled = customer_ledger.read_customer(connection, user_id)
    if settled is None or settled.customer_id is None:
        raise StripeUnclear("Another worker is just creating this customer. Try again.")
    return settled.customer_id


def claim_customer(user_id: str, customer_id: str, *, database: Database, clock: Clock) -> None:
    """Note that an existing Stripe customer is this user's. Raises InvalidRequest, CustomerTaken."""
    if not CUSTOMER_ID.fullmatch(customer_id):
        raise InvalidRequest("The customer id is not valid.", ("/customer_id", "must look like cus_..."))
    with database.write() as connection:
        customer_ledger.open_customer(connection, user_id=user_id, email=None, now=clock.now())
        if customer_ledger.claim(connection, user_id=user_id, customer_id=customer_id):
            return
        if customer_ledger.find_user(connection, customer_id) == user_id:
            return  # said before: saying it again changes nothing
    raise CustomerTaken(
        "This user already has a Stripe customer (or one is being created), or this customer is another user's."
    )


def _create(row: CustomerRow, *, database: Database, stripe: StripeGateway, clock: Clock) -> str:
    try:
        return stripe.create_customer(row.parameters, idempotency_key=row.idempotency_key)
    except StripeSavedFailure as failure:
        found = _look_for(row, stripe=stripe, clock=clock)
        if found is None and failure.replayed:  # settled: this key will never make one
            return _start_anew(row, database=database)
        if found is None:
            raise
        return found


def _look_for(row: CustomerRow, *, stripe: StripeGateway, clock: Clock) -> str | None:
    """The customer that the row's key made, if it made one."""
    since = (row.requested_at or clock.now()) - timedelta(hours=1)
    for customer in stripe.list_customers(created_since=since):
        if (customer.get("metadata") or {}).get("nonce") == row.idempotency_key:
            return str(customer["id"])
    return None


def _start_anew(row: CustomerRow, *, database: Database) -> str:
    with database.write() as connection:
        customer_ledger.renew_key(connection, row)
    raise StripeUnclear("The customer is created anew, with a new key. Try again.")
