"""The ids of a piece of work: from a request, through a message, to the lines of a worker."""

from dataclasses import astuple
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from billing.coordination.jobs import Notify, WorkLane
from billing.database import Database
from billing.process.context_ids import HEADER, carried, received
from tests.app.conftest import build_settings
from tests.support.checkout_world import World
from worker.app import create_celery

IDS = {"request_id": "req_1", "checkout_id": "chk_1", "operation_id": "op_1", "customer_id": "cus_1"}


@pytest.fixture(autouse=True)
def nothing_bound() -> None:
    """The context of a new process."""
    structlog.contextvars.clear_contextvars()


def test_ids_of_the_moment_are_carried_and_nothing_else() -> None:
    """OPS-174"""
    with structlog.contextvars.bound_contextvars(**IDS, email="ann@example.com", job="lane.work"):
        assert received({HEADER: carried()}) == IDS


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {HEADER: None},
        {HEADER: ["request_id"]},
        {HEADER: "x"},
        {HEADER: {"other": "id"}},
        {HEADER: {"request_id": 1}},
        {HEADER: {"request_id": "a b"}},
        {HEADER: {"checkout_id": "x" * 101}},
        {HEADER: {"customer_id": "\n{}"}},
    ],
)
def test_header_that_is_not_ours_brings_nothing(headers: Any) -> None:
    """OPS-174"""
    assert received(headers) == {}


@pytest.mark.parametrize(("job", "brings"), [(WorkLane(7), True), (Notify(), False)])
def test_worker_takes_the_ids_of_one_row_and_leaves_them_with_it(job: Any, brings: bool) -> None:
    """OPS-174: what is due belongs to many, and is not the sender's."""

    def services() -> Any:
        raise RuntimeError(repr(structlog.contextvars.get_contextvars()))

    task = create_celery(build_settings(), services=services).tasks[job.kind]
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        task.apply(list(astuple(job)), task_id="task-1", headers={HEADER: IDS})

    [line] = lines
    assert (line["event"], line["task_id"], line["job"]) == ("job.crashed", "task-1", job.kind)
    assert {name: line.get(name) for name in IDS} == (IDS if brings else dict.fromkeys(IDS))
    assert structlog.contextvars.get_contextvars() == {}


def test_every_call_to_stripe_is_a_line_with_stripes_own_id(ledger_world: World) -> None:
    """OPS-175"""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        checkout_id = ledger_world.ask()
        assert structlog.contextvars.get_contextvars() == {"checkout_id": checkout_id}, "of the web's lines"
        structlog.contextvars.clear_contextvars()
        ledger_world.work()
        ledger_world.sandbox.faults.add("status", status=503, path="/v1/checkout/sessions", method="POST")
        ledger_world.ask("commit", user="user_2")
        structlog.contextvars.clear_contextvars()
        ledger_world.work()

    calls = [line for line in lines if line["event"] == "stripe.answered"]
    assert len(calls) == len(ledger_world.requests())
    assert all(line["stripe_request_id"].startswith("req_") and line["checkout_id"] for line in calls)
    assert calls[0]["checkout_id"] == checkout_id
    assert {(line["status"] >= 400, line["log_level"]) for line in calls} == {(False, "debug"), (True, "info")}


@pytest.fixture
def ledger_world(database: Database) -> World:
    """A ledger, a sandbox and a buyer."""
    return World(database)
