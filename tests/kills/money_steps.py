"""Where a worker may die with money in hand, a customer who was taken over, or a buyer's cancellation: the hooks.

A duplicate's remedy: "plan" (commit), "cancel", "refund" and "credit" (before and after the call), "answer" (commit:
the row of what was sent has its answer), "settle" (commit: all is back). Taking over: "due" (before: it is claimed and
not fetched), then "fetch" and "write" of `event_steps.py`. Cancelling: "send-N" (the N-th write, before, and after: its
answer is noted), "update" (after: Stripe has it, and nobody noted it), "finish" (commit).
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

import worker.tasks
from billing.customers import due_syncs
from billing.duplicates import remedy, repayment_store
from billing.duplicates import store as duplicates_store
from billing.models import incidents
from billing.operations import store as operations_store
from billing.operations import work as operations_work
from billing.stripe_gateway import GatewayClient
from billing.subscriptions import take_over
from tests.kills.arming import Now, always, around, never, trip


def arm_money() -> None:
    """Put a hook before and after every step."""
    _arm_remedies()
    _arm_taking_over()
    _arm_operations()


def _arm_remedies() -> None:
    inner = remedy.remedy_duplicates

    def remedy_duplicates(incident_id: int, ctx: Any) -> bool:
        with ctx.database.read() as connection:
            whose = sa.select(incidents.c.customer_id).where(incidents.c.id == incident_id)
            Now.user = connection.scalar(whose)
        return bool(_forgetting(lambda: inner(incident_id, ctx)))

    remedy.remedy_duplicates = remedy_duplicates
    for name, step in (
        ("cancel_subscription", "cancel"),
        ("create_refund", "refund"),
        ("create_balance_transaction", "credit"),
    ):
        around(GatewayClient, name, always(step), always(step))
    _at_commit(duplicates_store, "plan", "plan")
    _at_commit(repayment_store, "note_answer", "answer")
    _at_commit(duplicates_store, "settle", "settle")


def _arm_taking_over() -> None:
    inner = due_syncs.claim

    def claim(*args: Any, **kwargs: Any) -> Any:
        due = inner(*args, **kwargs)
        Now.user = due.customer_id if due else None
        return due

    due_syncs.claim = claim
    around(take_over, "_sync", always("due"), never)


def _arm_operations() -> None:
    inner_send = operations_work.send_planned

    def send_planned(operation: Any, *rest: Any) -> None:
        Now.user = operation.user_id
        step = f"send-{len(operation.sent)}"
        trip(step, "before")
        inner_send(operation, *rest)
        trip(step, "after")

    operations_work.send_planned = send_planned
    around(GatewayClient, "update_subscription", never, always("update"))
    inner_finish = operations_store.finish

    def finish(connection: Any, operation: Any, *rest: Any, **named: Any) -> bool:
        Now.user, Now.committing = operation.user_id, "finish"
        return inner_finish(connection, operation, *rest, **named)

    operations_store.finish = finish
    inner_work = worker.tasks.work_operations
    worker.tasks.work_operations = lambda *args: _forgetting(lambda: inner_work(*args))


def _at_commit(store: Any, name: str, step: str) -> None:
    inner = getattr(store, name)

    def change(*args: Any, **kwargs: Any) -> Any:
        done = inner(*args, **kwargs)
        Now.committing = step
        return done

    setattr(store, name, change)


def _forgetting(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        Now.user = Now.committing = None
