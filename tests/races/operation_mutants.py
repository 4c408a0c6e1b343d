"""The shortcuts of the operations' protocol (SUB-30 to SUB-39), as switchable changes of the real code.

Each names the scene in which the explorer finds a counterexample, or the test that decides it.
"""

import uuid
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from billing.models import OperationStatus, operations
from billing.operations import decide, snapshot, work
from billing.operations import store as operations_store
from billing.stripe_gateway import GatewayClient
from tests.races.mutants import Mutant, Patch, rewrite
from tests.races.scene import Scene

OPERATIONS = "tests/billing/operations/test_work.py"
BOUGHT = Scene(plans=(), subscribed=True)


def no_write_ahead(patch: Patch) -> None:
    """A write is sent as soon as it is decided; the row hears of it afterwards."""
    real = work._change

    def change(operation: Any, at: Any, **values: Any) -> None:
        if isinstance(values.get("call"), dict):
            work.send(values["call"], stripe=at.stripe)
            values |= {"call": sa.null(), "sent": [*operation.sent, values["call"]["name"]]}
        real(operation, at, **values)

    patch.setattr(work, "_change", change)


def new_key(patch: Patch) -> None:
    """Whoever sends makes a key of their own."""
    for name in ("update_subscription", "create_schedule", "update_schedule", "release_schedule"):
        real = getattr(GatewayClient, name)

        def send(self: Any, *arguments: Any, idempotency_key: str, real: Any = real) -> None:
            real(self, *arguments, idempotency_key=str(uuid.uuid4()))

        patch.setattr(GatewayClient, name, send)


def any_order(patch: Patch) -> None:
    """The newest first: it is the one whose buyer has waited the least."""
    newest = ("order_by(operations.c.number)", "order_by(operations.c.number.desc())")
    rewrite(operations_store, "oldest_pending", newest)(patch)


def end_first(patch: Patch) -> None:
    """The answer is committed before the projection that shows it."""
    real = work.sync_customer

    def sync_customer(*arguments: Any, database: Any, then: Any, **rest: Any) -> Any:
        with database.write() as connection:
            then(connection)
        return real(*arguments, database=database, **rest)

    patch.setattr(work, "sync_customer", sync_customer)


def done_once_sent(patch: Patch) -> None:
    """What Stripe answered is taken for done, without a look; and so is a failure it has saved."""
    real = work.decide

    def decide(kind: Any, request: Any, seen: Any, *, sent: Any, **rest: Any) -> Any:
        if kind in sent or (kind == "switch" and "phases" in sent):
            return decide.Done()
        return real(kind, request, seen, sent=sent, **rest)

    patch.setattr(work, "decide", decide)


def end_without_cas(patch: Patch) -> None:
    """Whoever comes to the end writes it, whatever was written since they read."""

    def change(connection: Any, operation: Any, **values: Any) -> bool:
        own = sa.update(operations).where(operations.c.id == operation.id)
        return bool(connection.execute(own.values(version=operation.version + 1, **values)).rowcount)

    patch.setattr(operations_store, "change", change)


def unclear_is_failed(patch: Patch) -> None:
    """An answer that never came is told to the buyer as a failure."""

    def postpone(operation: Any, error: Any, at: Any) -> float:
        work._end(operation, OperationStatus.FAILED, {"code": error.code, "detail": error.sentence}, at)
        return 0.0

    patch.setattr(work, "_postpone", postpone)


OPERATION_MUTANTS = {
    "operation_unplanned": Mutant(
        "an operation's write is not planned in the row",
        no_write_ahead,
        scene=replace(BOUGHT, wishes=("cancel",)),
    ),
    "operation_new_key": Mutant(
        "a new idempotency key when an operation is taken over",
        new_key,
        scene=replace(BOUGHT, wishes=("cancel", "reactivate")),
    ),
    "operation_any_order": Mutant(
        "operations out of order",
        any_order,
        scene=replace(BOUGHT, wishes=("switch", "cancel")),
    ),
    "operation_ended_first": Mutant(
        "an operation ends before its projection commits",
        end_first,
        scene=replace(BOUGHT, wishes=("cancel",)),
    ),
    "operation_no_cas": Mutant(
        "operations without the compare-and-set",
        end_without_cas,
        scene=replace(BOUGHT, wishes=("cancel", "reactivate")),
    ),
    "operation_sent_is_done": Mutant(
        "take an operation for done once it was sent",
        done_once_sent,
        scene=replace(BOUGHT, wishes=("cancel",), saved_500=1),
    ),
    "operation_unclear_fails": Mutant(
        "tell a buyer that an unclear answer is a failure",
        unclear_is_failed,
        scene=replace(BOUGHT, wishes=("cancel",), lossy=0.25),
    ),
    "cancel_under_a_schedule": Mutant(
        "cancel without releasing the schedule",
        rewrite(decide, "_cancel", ("    if schedule:\n", "    if False:\n")),
        scene=replace(BOUGHT, wishes=("switch", "cancel")),
    ),
    "schedule_left_behind": Mutant(
        "a refused switch leaves its schedule",
        rewrite(decide, "decide", ("if failed:", "if failed and not schedule:"), users=(work,)),
        scene=replace(BOUGHT, wishes=("switch",), lacks="commit"),
    ),
    "undo_without_release": Mutant(
        "take a switch back without releasing its schedule",
        rewrite(
            decide,
            "decide",
            ("return _release(schedule) if schedule and pending else Done()", "return Done()"),
            users=(work,),
        ),
        scene=replace(BOUGHT, wishes=("switch", "undo")),
    ),
    "list_alone": Mutant(
        "choose the subscription from Stripe's list alone",
        rewrite(snapshot, "_choose", ("*listed, *fetch_missing(customer_id, shown, listed, ctx.stripe)", "*listed")),
        test=f"{OPERATIONS}::test_subscription_that_stripes_list_does_not_show_yet_can_be_changed",
    ),
}
