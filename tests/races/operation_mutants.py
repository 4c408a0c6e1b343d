"""The shortcuts of the operations' protocol (SUB-30 to SUB-39), as switchable changes of the real code.

Each names the scene in which the explorer finds a counterexample, or the test that decides it.
"""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from billing.catalog import Catalog
from billing.models import OperationStatus, operations
from billing.operations import decide, phases, snapshot, steps, work
from billing.operations import store as operations_store
from billing.operations.calls import Kind
from billing.rules.product_tag import is_tagged
from billing.stripe_gateway import GatewayClient
from billing.subscriptions.fetch import fetch_missing
from billing.subscriptions.projection import plan_item
from billing.subscriptions.sync import sync_customer
from tests.races.mutant import Mutant, always, new_key
from tests.races.scene import Scene

ELSEWHERE = "tests/billing/operations/test_elsewhere.py"
OPERATIONS = "tests/billing/operations/test_work.py"
BOUGHT = Scene(plans=(), subscribed=True)


def no_write_ahead(real: Any, operation: Any, ctx: Any, **values: Any) -> None:
    """A write is sent as soon as it is decided, and its row is changed afterwards."""
    if isinstance(values.get("call"), dict):
        steps.send(values["call"], stripe=ctx.stripe)
        values |= {"call": sa.null(), "sent": [*operation.sent, steps._as_sent(values["call"])]}
    real(operation, ctx, **values)


def newest_first(_: Any, connection: sa.Connection, lane_id: int) -> operations_store.Operation | None:
    """The newest is worked first: its buyer has waited the least."""
    columns = [operations.c[name] for name in operations_store.Operation.__slots__]
    pending = (operations.c.lane_id == lane_id, operations.c.status == OperationStatus.PENDING)
    newest = sa.select(*columns).where(*pending).order_by(operations.c.number.desc()).limit(1)
    row = connection.execute(newest).first()
    return operations_store.as_operation(row._mapping) if row else None


def end_before_projection(real: Any, customer_id: str, ctx: Any, *, then: Any = None, **rest: Any) -> Any:
    """What belongs to the projection's commit is committed before it."""
    if then is not None:
        with ctx.database.write() as connection:
            then(connection)
    return real(customer_id, ctx, **rest)


def sent_is_done(real: Any, kind: Any, request: Any, snapshot: Any, *, sent: Any, **rest: Any) -> Any:
    """What Stripe answered is taken for done, without a look; and so is a failure it has saved."""
    written = {one.name for one in sent}
    if kind in written or (kind == "switch" and "phases" in written):
        return decide.Done()
    return real(kind, request, snapshot, sent=sent, **rest)


def change_without_cas(_: Any, connection: sa.Connection, operation: Any, **values: Any) -> bool:
    """Whoever comes to the end writes it, whatever was written since they read."""
    own = sa.update(operations).where(operations.c.id == operation.id)
    return bool(connection.execute(own.values(version=operation.version + 1, **values)).rowcount)


def unclear_is_failed(_: Any, operation: Any, error: Any, ctx: Any) -> float:
    """An answer that never came ends the operation as a failure."""
    steps.end(operation, OperationStatus.FAILED, {"code": error.code, "detail": error.sentence}, ctx)
    return 0.0


def cancel_under_a_schedule(real: Any, one: Any, *arguments: Any) -> Any:
    """The schedule is no reason to wait."""
    return real(replace(one, schedule=None), *arguments)


def any_schedule_is_ours(_: Any, one: Any, catalog: Any) -> bool:
    """Whatever governs the subscription is released."""
    return one.running is not None


def mark_is_enough(_: Any, schedule: Any, subscription: Any, catalog: Catalog) -> bool:
    """A schedule with our mark is ours, whoever edited it since."""
    return is_tagged(schedule, catalog.product)


def first_items_period(_: Any, subscription: Any, catalog: Any) -> Any:
    """The first item's period is the subscription's."""
    return subscription["items"]["data"][0]


def plans_item_alone(real: Any, first: Any, **rest: Any) -> Any:
    """The next phase has the next plan, and nothing else."""
    made = real(first, **rest)
    return {**made, "items": [one for one in made["items"] if one["price"] == rest["plan"].price]}


def schedule_left_behind(real: Any, kind: Any, request: Any, snapshot: Any, *, failed: bool, **rest: Any) -> Any:
    """A refused switch ends, and its schedule runs on."""
    running = snapshot.shown is not None and snapshot.shown.running is not None
    return real(kind, request, snapshot, failed=failed and not running, **rest)


def undo_without_release(real: Any, kind: Any, *arguments: Any, **rest: Any) -> Any:
    """To take a switch back is done at once."""
    step = real(kind, *arguments, **rest)
    return decide.Done() if kind is Kind.UNDO_SWITCH and isinstance(step, decide.Call) else step


OPERATION_MUTANTS = {
    "operation_unplanned": Mutant(
        "an operation's write is not planned in the row",
        {steps.change: no_write_ahead},
        scene=replace(BOUGHT, wishes=("cancel",)),
    ),
    "operation_new_key": Mutant(
        "a new idempotency key when an operation is taken over",
        dict.fromkeys(
            (
                GatewayClient.update_subscription,
                GatewayClient.create_schedule,
                GatewayClient.update_schedule,
                GatewayClient.release_schedule,
            ),
            new_key,
        ),
        scene=replace(BOUGHT, wishes=("cancel", "reactivate")),
    ),
    "operation_any_order": Mutant(
        "operations out of order",
        {operations_store.oldest_pending: newest_first},
        scene=replace(BOUGHT, wishes=("switch", "cancel")),
    ),
    "operation_ended_first": Mutant(
        "an operation ends before its projection commits",
        {sync_customer: end_before_projection},
        scene=replace(BOUGHT, wishes=("cancel",)),
    ),
    "operation_no_cas": Mutant(
        "operations without the compare-and-set",
        {operations_store.change: change_without_cas},
        scene=replace(BOUGHT, wishes=("cancel", "reactivate")),
    ),
    "operation_sent_is_done": Mutant(
        "take an operation for done once it was sent",
        {decide.decide: sent_is_done},
        scene=replace(BOUGHT, wishes=("cancel",), saved_500=1),
    ),
    "operation_unclear_fails": Mutant(
        "tell a buyer that an unclear answer is a failure",
        {work._postpone: unclear_is_failed},
        scene=replace(BOUGHT, wishes=("cancel",), lossy=0.25),
    ),
    "cancel_under_a_schedule": Mutant(
        "cancel without releasing the schedule",
        {decide._cancel_one: cancel_under_a_schedule},
        scene=replace(BOUGHT, wishes=("switch", "cancel")),
    ),
    "schedule_left_behind": Mutant(
        "a refused switch leaves its schedule",
        {decide.decide: schedule_left_behind},
        scene=replace(BOUGHT, wishes=("switch",), lacks="commit"),
    ),
    "undo_without_release": Mutant(
        "take a switch back without releasing its schedule",
        {decide.decide: undo_without_release},
        scene=replace(BOUGHT, wishes=("switch", "undo")),
    ),
    "cancel_shown_alone": Mutant(
        "cancel the subscription that is shown, and no other",
        {snapshot._others: always([])},
        scene=replace(BOUGHT, wishes=("cancel",), second=True),
    ),
    "coming_is_nothing": Mutant(
        "cancel what runs, and say nothing of what begins later",
        {snapshot._coming: always([])},
        test="tests/billing/operations/test_several.py"
        "::test_subscription_that_is_to_begin_later_is_named_and_the_one_that_runs_ends",
    ),
    "any_schedule_is_ours": Mutant(
        "release whatever governs the subscription",
        {decide._is_releasable: any_schedule_is_ours},
        test=f"{ELSEWHERE}::test_what_somebody_else_planned_is_not_touched",
    ),
    "mark_is_enough": Mutant(
        "take a schedule with our mark for ours",
        {phases.is_ours: mark_is_enough},
        test=f"{ELSEWHERE}::test_our_schedule_that_somebody_edited_is_not_ours_any_more",
    ),
    "one_off_forgotten": Mutant(
        "take a schedule with one-off items for ours, or for one that plans nothing",
        {phases.current_phase: lambda real, schedule: {**real(schedule), phases.ONE_OFF: []}},
        test=f"{ELSEWHERE}::test_schedule_that_bills_something_once_is_somebody_elses",
    ),
    "blame_the_plan": Mutant(
        "whatever Stripe refuses of a switch is a failure",
        {steps._explained: lambda _, refused, operation, ctx: refused},
        test="tests/billing/operations/test_of_old.py"
        "::test_switch_from_a_price_that_stripe_does_not_sell_any_more_is_refused_with_a_code",
    ),
    "mixed_intervals": Mutant(
        "ask Stripe for a switch that classic billing mode cannot bill",
        {decide.has_interval_of: always(True)},
        test="tests/billing/operations/test_of_old.py::test_switch_that_classic_billing_cannot_bill_is_refused_before_anything_is_changed",
    ),
    "term_forgotten": Mutant(
        "forget the term that a cancellation replaced",
        {operations_store.find_cancellations: always([])},
        test=f"{ELSEWHERE}::test_cancelling_within_a_term_and_taking_it_back_restores_the_term",
    ),
    "first_items_period": Mutant(
        "end with the period of the first item",
        {plan_item: first_items_period},
        test=f"{ELSEWHERE}::test_plan_ends_with_its_own_period_whatever_is_billed_beside_it",
    ),
    "plans_item_alone": Mutant(
        "write the next phase from the plan alone",
        {phases.exchange: plans_item_alone},
        test="tests/billing/operations/test_carried.py::test_switch_carries_everything_but_the_plans_price",
    ),
    "planned_by_price_alone": Mutant(
        "tell the plan that comes by the prices that the catalog names",
        {GatewayClient.get_schedule: lambda _, gateway, id_: gateway._get("/v1/subscription_schedules/{id}", id_=id_)},
        test="tests/billing/operations/test_plans.py::test_planned_plan_is_told_by_its_stripe_product",
    ),
    "list_alone": Mutant(
        "choose the subscription from Stripe's list alone",
        {fetch_missing: always([])},
        test="tests/billing/operations/test_work_meanwhile.py::test_subscription_that_stripes_list_does_not_show_yet_can_be_changed",
    ),
}
