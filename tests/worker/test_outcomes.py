"""What each job is counted as where its work fails: in passing, for good, and not at all."""

from collections.abc import Mapping
from dataclasses import astuple
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from billing.coordination.jobs import (
    JOB_KINDS,
    Examine,
    Job,
    Notify,
    Prune,
    Reconcile,
    RemedyDuplicates,
    ReplayEvents,
    Sweep,
    SyncCustomers,
    WorkEvents,
    WorkLane,
    WorkOperations,
)
from billing.database import Database
from billing.models import lanes as lane_rows
from billing.notifications.senders import NotDelivered
from billing.operations.calls import Kind
from billing.operators.sync_user import ask_for_sync
from billing.services import Services
from billing.subscriptions import projection_store
from tests.support.builders import SECRET, deliver
from tests.support.duplicates_world import Shop
from tests.support.receiving import receive
from worker.task_base import JobTask
from worker.tasks import works

# By what Stripe answers: a failure in passing, and a refusal for good. The application answers 500 in both.
FAILED_AS: Mapping[type[Job], Mapping[int, str]] = {
    WorkLane: {503: "failed", 400: "failed"},
    WorkOperations: {503: "failed", 400: "failed"},
    WorkEvents: {503: "failed", 400: "failed"},
    SyncCustomers: {503: "failed", 400: "failed"},
    RemedyDuplicates: {503: "failed", 400: "failed"},
    Notify: {503: "failed", 400: "failed"},
    Reconcile: {503: "transient", 400: "permanent"},  # what it raises is noted in its row, too
}
# These ask nobody but the ledger, or write down what they find. Without a ledger they are `transient`, as all are.
ASK_NOBODY = {ReplayEvents, Examine, Prune, Sweep}
OUTCOMES = ("done", "failed", "transient", "permanent", "unexpected")


class Refusing:
    """An application that takes nothing."""

    def send(self, _message_id: str, _body: Mapping[str, Any], *, at: datetime) -> None:
        raise NotDelivered("The application answered 500.")


@pytest.fixture
def shop(database: Database) -> Shop:
    """A buyer with two subscriptions, who wants another plan; an event, a change and a checkout wait, too."""
    shop = Shop(database)
    customer = shop.customer()
    shop.another(customer)
    assert shop.found(customer) == 1
    shop.change(Kind.CANCEL)
    shop.ask("commit", user="user_2")
    with database.write() as connection:
        change = {"kind": "subscription.updated", "payload": {}, "now": shop.clock.now()}
        projection_store.note_change(connection, customer_id="cus_1", **change)
    ask_for_sync("user_1", database=database, clock=shop.clock)
    paid = next(event for event in shop.objects("event") if event["type"] == "invoice.paid")
    body, header = deliver(paid, at=shop.clock.now())
    places: dict[str, Any] = {"database": database, "queue": shop.queue, "clock": shop.clock}
    receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **places)
    return shop


@pytest.mark.parametrize("status", [503, 400])
def test_job_that_failed_is_counted_as_what_it_is(shop: Shop, status: int) -> None:
    """OPS-185"""
    settings = SimpleNamespace(checkout_reuse_seconds=900, stripe_max_per_second=1e6, duplicate_policy="cancel_newest")
    services = cast("Services", SimpleNamespace(**shop.collaborators(), notifier=Refusing(), settings=settings))
    first, second = (lane.id for lane in shop.rows(lane_rows))
    work_of = works(threads=9)
    jobs: list[Job] = [
        Notify(), RemedyDuplicates(1), WorkOperations(first), WorkLane(second), SyncCustomers(), WorkEvents(),
        Reconcile(),
    ]  # fmt: skip
    assert {type(job) for job in jobs} == set(FAILED_AS) == set(JOB_KINDS) - ASK_NOBODY

    def outcome(job: Job) -> list[str]:
        before = {outcome: counted(job.kind, outcome) for outcome in OUTCOMES}
        JobTask(type(job), work_of[type(job)], lambda: services).run(*astuple(job))
        return [outcome for outcome, number in before.items() if counted(job.kind, outcome) > number]

    shop.sandbox.faults.add("status", status=status, times=None)
    assert {type(job): outcome(job) for job in jobs} == {kind: [how[status]] for kind, how in FAILED_AS.items()}
    shop.sandbox.faults.clear()
    assert {type(job): outcome(job) for job in jobs} == {kind: ["done"] for kind in FAILED_AS}, "not due, or it works"


def counted(kind: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("onelane_jobs_total", {"kind": kind, "outcome": outcome}) or 0
