"""The task that sends changes, and one that is committed at its end."""

from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from billing.coordination.jobs import Notify
from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.notifications import store
from billing.services import Services
from billing.subscriptions import projection_store
from tests.support.builders import MovableClock
from worker.task_base import JobTask
from worker.tasks import outbox_notify


class Application:
    """Takes everything."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def send(self, _message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        """Note the change's number."""
        del at
        self.heard.append(body["data"]["number"])


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
