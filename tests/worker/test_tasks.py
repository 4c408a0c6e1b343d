"""The tasks: whose calls to Stripe go first."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from billing.jobs import ProcessEvent, Reconcile, RemedyDuplicates, WorkLane
from billing.queue import InlineQueue
from worker import tasks


@dataclass
class Services:
    """Just enough of them; what a flow is handed beyond Stripe does not matter here."""

    stripe: Any
    queue: InlineQueue = field(default_factory=InlineQueue)

    def __getattr__(self, name: str) -> Any:
        return Anything()


class Anything:
    def __getattr__(self, name: str) -> Any:
        return 4.0


class Stripe:
    behind = "behind buyers"

    def low_priority(self) -> str:
        return self.behind


@pytest.mark.parametrize(
    ("task", "flow", "job", "first"),
    [
        (tasks.lane_work, "work_lane", WorkLane(1), True),
        (tasks.event_process, "process_event", ProcessEvent(1), False),
        (tasks.duplicates_remedy, "remedy_duplicates", RemedyDuplicates(1), False),
        (tasks.ledger_reconcile, "reconcile", Reconcile(1), False),
    ],
)
def test_only_a_buyers_lane_asks_stripe_before_the_others(
    monkeypatch: pytest.MonkeyPatch, task: Any, flow: str, job: Any, first: bool
) -> None:
    """WHK-61"""
    given: list[Any] = []
    monkeypatch.setattr(tasks, flow, lambda *_, stripe, **__: given.append(stripe))
    stripe = Stripe()
    task(job, Services(stripe))
    assert given == [stripe if first else Stripe.behind]
