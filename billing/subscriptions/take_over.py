"""Customers that were taken over, or that a person asks about, are fetched at once (SUB-70).

1 claim the customer that came last  2 sync it, which closes the row in its own commit  3 on failure note when it is
tried again; and begin again. `PUT /v1/customers/{user}` and imports write the row; a message or the sweep wakes us.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from billing.coordination.jobs import SyncCustomers
from billing.coordination.wakeups import Wakeups, wait_while
from billing.customers import due_syncs
from billing.customers.due_syncs import SYNCS, DueSync
from billing.customers.store import find_owner
from billing.database import Database, run_in_transaction
from billing.errors import LedgerUnavailable, OnelaneError
from billing.rules.backoff import is_failure
from billing.subscriptions import context
from billing.subscriptions.sync import sync_customer

log = structlog.get_logger(__name__)

SOON = timedelta(seconds=10)  # up to here a delayed wake-up, beyond it the sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(context.Context):
    """The collaborators. `wakeups` tells who waits for a customer."""

    wakeups: Wakeups


def sync_taken_over(ctx: Context, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Fetch one customer after the other until none is due, or until `stop`; False where a failure was noted.

    Raises LedgerUnavailable.
    """
    good = True
    while not stop():
        due = run_in_transaction(ctx.database, partial(due_syncs.claim, now=ctx.clock.now()))
        if due is None:
            return good
        try:
            _sync(due, ctx)
        except LedgerUnavailable:
            raise  # nothing can be noted; the lease ends by itself
        except OnelaneError as error:
            _note_failure(due, error, ctx)
            good = False
    ctx.queue.send(SyncCustomers())
    return good


def await_sync(customer_id: str, *, seconds: float, database: Database, wakeups: Wakeups) -> None:
    """Wait until the customer was fetched since it was taken over, at most so long. Raises LedgerUnavailable."""

    def is_due() -> bool:
        with database.read() as connection:
            owner = find_owner(connection, customer_id)
        return owner is not None and owner.sync_due

    wait_while(bool, is_due, customer_id, wakeups=wakeups, seconds=seconds)


def _sync(due: DueSync, ctx: Context) -> None:
    sync_customer(due.customer_id, ctx, with_payment_status=ctx.catalog.access.depends_on_payment)
    ctx.wakeups.wake([due.customer_id])


def _note_failure(due: DueSync, error: OnelaneError, ctx: Context) -> None:
    wait = timedelta(seconds=SYNCS.wait_seconds(due.sync_failures, error))
    until, failures = ctx.clock.now() + wait, int(is_failure(error))
    note = partial(due_syncs.put_off, due=due, until=until, failures=failures, error=error.sentence)
    run_in_transaction(ctx.database, note)
    log.warning("customer.sync_postponed", customer_id=due.customer_id, error=error.code, reason=error.sentence)
    if wait <= SOON:
        ctx.queue.send(SyncCustomers(), delay_seconds=wait.total_seconds() + 0.01)  # past the moment, not at it
