"""The task that sends changes: one that is committed at its end; and how it and others count what failed."""

from collections.abc import Callable, Mapping
from dataclasses import astuple
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from billing.coordination.jobs import Job, Notify, SyncCustomers, WorkEvents, WorkLane
from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.notifications import store
from billing.notifications.senders import NotDelivered
from billing.operators.sync_user import ask_for_sync
from billing.services import Services
from billing.subscriptions import projection_store
from tests.support.builders import SECRET, MovableClock, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive
from worker.lane_shares import LaneShares
from worker.task_base import JobTask
from worker.tasks import customers_sync, events_work, lane_work, outbox_notify


class Application:
    """Takes everything."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def send(self, _message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        """Note the change's number."""
        del at
        self.heard.append(body["data"]["number"])


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.mark.parametrize("customer", ["cus_1", "cus_2"])
def test_change_that_comes_after_the_last_look_is_sent(
    database: Database, monkeypatch: pytest.MonkeyPatch, customer: str
) -> None:
    """NTF-10: its wake-up finds the sender still at work; the same customer's, or another one's."""
    application, clock = Application(), MovableClock()
    services = SimpleNamespace(database=database, notifier=application, clock=clock, queue=InlineQueue())
    task = JobTask(Notify, outbox_notify, lambda: cast("Services", services), alone=True)

    def commit(number: int, customer_id: str) -> None:
        with database.write() as connection:
            projection_store.note_change(
                connection, customer_id=customer_id, kind="subscription.updated", payload={"number": number},
                now=clock.now(),
            )  # fmt: skip

    look, late = store.due, [2]

    def look_then_lag(*args: Any, **kwargs: Any) -> Any:
        found = look(*args, **kwargs)
        if not found and late:
            commit(late.pop(), customer)
            task.run()  # the message of that commit
        return found

    monkeypatch.setattr(store, "due", look_then_lag)
    commit(1, "cus_1")
    task.run()
    assert application.heard == [1, 2]


def test_job_whose_flow_noted_a_failure_is_counted_as_failed(database: Database, world: World) -> None:
    """OPS-185: an application that answers 500, a checkout, a customer and an event while Stripe answers 503."""

    class Refusing(Application):
        def send(self, _message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
            raise NotDelivered("The application answered 500.")

    settings = SimpleNamespace(checkout_reuse_seconds=900, stripe_max_per_second=1e6)
    places = {**world.collaborators(), "notifier": Refusing(), "settings": settings}
    services = cast("Services", SimpleNamespace(**places))

    def outcomes(job: Job, work: Callable[..., Any]) -> dict[str, float]:
        before = {outcome: counted(job.kind, outcome) for outcome in ("done", "failed")}
        JobTask(type(job), work, lambda: services).run(*astuple(job))
        return {outcome: counted(job.kind, outcome) - number for outcome, number in before.items()}

    view = world.served("standard")
    world.sandbox.pay(str(view.session_id))
    with database.write() as connection:
        change = {"kind": "subscription.updated", "payload": {}, "now": world.clock.now()}
        projection_store.note_change(connection, customer_id="cus_1", **change)
    ask_for_sync("user_1", database=database, clock=world.clock)
    world.ask("commit")
    [paid] = [event for event in world.objects("event") if event["type"] == "invoice.paid"]
    body, header = deliver(paid, at=world.clock.now())
    receive(body, header, secrets=[SECRET], max_bytes=1 << 20, database=database, queue=world.queue, clock=world.clock)
    world.sandbox.faults.add("status", status=503, times=None)
    lanes = LaneShares(2)
    works: dict[Job, Callable[..., Any]] = {
        Notify(): outbox_notify,
        WorkLane(1): partial(lane_work, lanes=lanes),
        SyncCustomers(): customers_sync,
        WorkEvents(): events_work,
    }
    for job, work in works.items():
        assert outcomes(job, work) == {"done": 0, "failed": 1}, job
        assert outcomes(job, work) == {"done": 1, "failed": 0}, "nothing is due again yet"


def counted(kind: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("onelane_jobs_total", {"kind": kind, "outcome": outcome}) or 0
