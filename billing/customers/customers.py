"""One Stripe customer per user, however many first checkouts come at once (CHK-8).

The row with its own idempotency key is committed before POST /v1/customers, so every worker sends the same key and
parameters. `claim_customer` notes an existing customer (import, PUT).
"""

from datetime import timedelta

from billing.clock import Clock
from billing.customers import store as customers_store
from billing.customers.store import CustomerRow
from billing.database import Database
from billing.errors import (
    CustomerTaken,
    InvalidRequest,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
    UserErased,
)
from billing.rules.ids import CUSTOMER
from billing.rules.product_tag import nonce_of
from billing.stripe_gateway import StripeGateway

# Stripe keeps keys for at least 24 h; an older one may create a second customer. It is 4 h less for clocks: the first
# sender's may have been 2 h ahead, and ours 2 h behind.
KEY_LIFETIME = timedelta(hours=20)
CLOCK_MARGIN = timedelta(hours=3)
# 15 s: one call at its 10 s timeout, and 5 s for a list that lags. What is not found by then was never created.
LOOK_AGAIN = timedelta(seconds=15)


def ensure_customer(user_id: str, *, database: Database, stripe: StripeGateway, clock: Clock) -> str:
    """The user's Stripe customer, created when there is none. Raises StripeUnclear and the gateway's errors."""
    with database.write() as connection:
        customers_store.note_request(connection, user_id, now=clock.now())  # the write-ahead
        row = customers_store.read_customer(connection, user_id)
    assert row is not None, "a lane's user has a row"  # the foreign key says so
    if row.customer_id is not None:
        return row.customer_id
    if row.requested_at is not None and row.requested_at < clock.now() - KEY_LIFETIME:
        made = _look_for(row, stripe=stripe, clock=clock) or _start_anew(row, database=database)
    else:
        made = _create(row, database=database, stripe=stripe, clock=clock)
    with database.write() as connection:
        customers_store.set_customer(connection, row, made)
        settled = customers_store.read_customer(connection, user_id)
    if settled is None or settled.customer_id is None:
        raise StripeUnclear("Another worker is just creating this customer. Try again.")
    return settled.customer_id


def claim_customer(user_id: str, customer_id: str, *, database: Database, clock: Clock) -> None:
    """Note an existing Stripe customer as this user's, and in the same commit that it has to be fetched (SUB-70).

    It takes the place of one that Stripe does not have: deleted there, or a typing error (CHK-42). The caller wakes a
    worker. Raises InvalidRequest, CustomerTaken and UserErased.
    """
    if not CUSTOMER.fullmatch(customer_id):
        raise InvalidRequest("The customer id is not valid.", ("/customer_id", "must look like cus_..."))
    with database.write() as connection:
        customers_store.open_customer(connection, user_id=user_id, email=None, now=clock.now())
        row = customers_store.read_customer(connection, user_id)
        if row is not None and row.is_erased:
            raise UserErased
        customers_store.release_missing(connection, user_id)
        if customers_store.claim(connection, user_id=user_id, customer_id=customer_id, now=clock.now()):
            return
        owner = customers_store.find_owner(connection, customer_id)
        if owner and owner.user_id == user_id:
            return  # noted before
    raise CustomerTaken(
        "This user already has a Stripe customer (or one is being created), or this customer is another user's. Who has"
        " one that nothing was bought with can get another: delete the empty one at Stripe first."
    )


def adopt_made(row: CustomerRow, *, database: Database, stripe: StripeGateway, clock: Clock) -> None:
    """Note the customer that an interrupted creation made, if any; none is created."""
    if row.customer_id is None and row.requested_at is not None:
        found = _look_for(row, stripe=stripe, clock=clock)
        if found is not None:
            with database.write() as connection:
                customers_store.set_customer(connection, row, found)


def _create(row: CustomerRow, *, database: Database, stripe: StripeGateway, clock: Clock) -> str:
    try:
        return stripe.create_customer(row.parameters, idempotency_key=row.idempotency_key)
    except StripeSavedFailure as failure:
        found = _look_for(row, stripe=stripe, clock=clock)
        # abs: a time that a clock ahead of ours wrote must not be waited for.
        waited = row.requested_at is not None and abs(clock.now() - row.requested_at) >= LOOK_AGAIN
        if found is None and failure.replayed and waited:  # final: this key never creates one
            return _start_anew(row, database=database)
        if found is None:
            raise
        return found
    except StripeRefused as refused:
        if refused.param != "email" or "email" not in row.parameters:
            raise
        # A customer needs no email; with an address that Stripe refuses, this user would be refused for ever.
        return _start_anew(row, database=database, leave_out="email")


def _look_for(row: CustomerRow, *, stripe: StripeGateway, clock: Clock) -> str | None:
    """The customer that the row's key made, if it made one."""
    since = (row.requested_at or clock.now()) - CLOCK_MARGIN
    for customer in stripe.list_customers(created_since=since):
        if nonce_of(customer) == row.idempotency_key:
            return str(customer["id"])
    return None


def _start_anew(row: CustomerRow, *, database: Database, leave_out: str = "") -> str:
    with database.write() as connection:
        customers_store.renew_key(connection, row, leave_out=leave_out)
    raise StripeUnclear("The customer is created anew, with a new key. Try again.")
