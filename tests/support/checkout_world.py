"""A small world for checkout tests: a real ledger, the sandbox in process, one buyer and as many workers as needed.

Time stands still until a test moves it; ledger, sandbox and workers share it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.dev.settings import sandbox_seed
from billing.catalog import Catalog
from billing.checkout.context import Context
from billing.checkout.requests import CheckoutRequest, Recorded, read_checkout, record_checkout
from billing.checkout.view import CheckoutView
from billing.checkout.work import work_lane
from billing.coordination.jobs import Job, SyncCustomers, WorkLane, WorkOperations
from billing.coordination.locks import LocalLocks, Locks
from billing.coordination.queue import InlineQueue
from billing.coordination.wakeups import LocalWakeups
from billing.database import Database
from billing.models import metadata
from billing.operations.calls import Kind
from billing.operations.requests import Recorded as RecordedOperation
from billing.operations.requests import record_operation
from billing.operations.work import work_operations
from billing.stripe_gateway import StripeGateway
from billing.subscriptions import take_over
from sandbox.core import Sandbox
from tests.support.builders import CATALOG, MovableClock
from tests.support.in_process import gateway

ORIGIN = "https://app.example"
# A fault of the sandbox and its fields: answers to a creation that do not say whether anything was made.
UNCLEAR: tuple[tuple[str, dict[str, Any]], ...] = (
    ("drop_before", {}),
    ("drop_after", {}),
    ("truncated", {}),
    ("html", {"status": 502}),
    ("status", {"status": 409}),
    ("status", {"status": 429}),
)


def clock_at_present() -> MovableClock:
    """A clock that stands still at the time that it is: a web beside this world goes by the real one."""
    return MovableClock(datetime.now(UTC).replace(microsecond=0))


class PatientQueue(InlineQueue):
    """Keeps how long each job has to wait, too."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: dict[Job, float] = {}

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        if job not in self.sent:
            self.delays[job] = delay_seconds
        return super().send(job)


@dataclass
class World:
    """Everything a checkout needs."""

    database: Database
    clock: MovableClock = field(default_factory=clock_at_present)
    catalog: Catalog = CATALOG
    queue: PatientQueue = field(default_factory=PatientQueue)
    wakeups: LocalWakeups = field(default_factory=LocalWakeups)
    locks: Locks = field(default_factory=LocalLocks)
    reuse_seconds: int = 900
    lacks: str | None = None  # the id of a price that Stripe does not have

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(clock=lambda: self.clock.time.timestamp(), seed=1)
        self.sandbox.seed(one for one in sandbox_seed(self.catalog) if one["id"] != self.lacks)
        self.stripe: StripeGateway = gateway(self.sandbox, clock=self.clock)

    # --- what people do

    def ask(self, plan: str = "standard", *, user: str = "user_1", key: str | None = None, **body: Any) -> str:
        """A buyer asks for a checkout; its id."""
        return self.record(plan, user=user, key=key, **body).checkout_id

    def record(self, plan: str = "standard", *, user: str = "user_1", key: str | None = None, **body: Any) -> Recorded:
        """The same, with whether it was a replay."""
        addresses = {"success_url": f"{ORIGIN}/ok", "cancel_url": f"{ORIGIN}/no"}
        request = CheckoutRequest(plan=plan, **addresses | body)
        return record_checkout(request, email=None, **self._asked_by(user, key))

    def change(self, kind: Kind, user: str = "user_1", *, key: str | None = None, **request: Any) -> RecordedOperation:
        """A buyer asks for an operation."""
        return record_operation(kind, request, **self._asked_by(user, key))

    def _asked_by(self, user: str, key: str | None) -> dict[str, Any]:
        places = {"database": self.database, "queue": self.queue, "clock": self.clock, "catalog": self.catalog}
        return {"user_id": user, "idempotency_key": key, "redirect_origins": [ORIGIN], **places}

    def work(self) -> None:
        """Work whatever waits, as the workers would, until nothing is due any more; what has to wait is waited for."""
        while self.queue.sent:
            job = self.queue.sent.pop(0)
            self.clock.advance(seconds=self.queue.delays.pop(job, 0))
            if isinstance(job, WorkOperations):
                self.work_operations(job.row_id)
            elif isinstance(job, SyncCustomers):
                self.sync_taken_over()
            elif isinstance(job, WorkLane):
                self.work_lane(job.row_id)

    def work_lane(self, lane_id: int = 1, **instead: Any) -> None:
        """Work one lane once; `instead` replaces collaborators."""
        work_lane(lane_id, self.context(**instead))

    def work_operations(self, lane_id: int = 1, **instead: Any) -> None:
        """Work one lane's operations once; `instead` replaces collaborators."""
        work_operations(lane_id, self.context(**instead))

    def sync_taken_over(self, *, stop: Callable[[], bool] = lambda: False, **instead: Any) -> None:
        """Work one wake-up for customers that were taken over; `instead` replaces collaborators."""
        handed = {name: place for name, place in self.collaborators().items() if name != "locks"}
        take_over.sync_taken_over(take_over.Context(**{**handed, **instead}), stop=stop)

    def context(self, **instead: Any) -> Context:
        """What a pass over a lane is handed."""
        return Context(**{**self.collaborators(), "reuse_seconds": self.reuse_seconds, **instead})

    def everything(self) -> list[tuple[Any, ...]]:
        """Each row of the ledger, and each request to Stripe: what reading must not change."""
        with self.database.read() as connection:
            rows = [tuple(row) for table in metadata.sorted_tables for row in connection.execute(table.select())]
        return [*rows, *enumerate(self.requests())]

    def collaborators(self) -> dict[str, Any]:
        """What flows are handed, by name."""
        names = ("database", "stripe", "locks", "queue", "wakeups", "clock", "catalog")
        return {name: getattr(self, name) for name in names}

    def view(self, checkout_id: str, *, user: str = "user_1") -> CheckoutView:
        """The checkout as its buyer sees it."""
        return read_checkout(checkout_id, user_id=user, database=self.database, clock=self.clock)

    def served(self, plan: str = "standard", **body: Any) -> CheckoutView:
        """Ask and work: the answer."""
        checkout_id = self.ask(plan, **body)
        self.work()
        return self.view(checkout_id, user=body.get("user", "user_1"))

    def legacy(self, customer_id: str) -> dict[str, Any]:
        """What an earlier system would have created: tagged, without a nonce."""
        return {
            "mode": "subscription",
            "customer": customer_id,
            "line_items": [{"price": self.catalog.plans["standard"].price, "quantity": 1}],
            "success_url": "https://old.example",
            "metadata": {"type": "kiloclaw"},
        }

    # --- what is then

    def rows(self, table: sa.Table) -> list[Any]:
        """Every row of a table."""
        with self.database.read() as connection:
            return list(connection.execute(sa.select(table).order_by(*table.primary_key)).all())

    # --- what Stripe knows

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind, newest first."""
        self.sandbox.tick()
        return list(self.sandbox.store.newest_first(kind))

    def sessions(self, status: str | None = None) -> list[dict[str, Any]]:
        """Checkout sessions, newest first."""
        return [one for one in self.objects("checkout_session") if status in (None, one["status"])]

    def requests(self, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """What was asked of Stripe."""
        return [one for one in self.sandbox.log if one["method"].startswith(method) and one["path"].startswith(path)]

    def creates(self) -> int:
        """How many creations of sessions were executed."""
        return len(self.objects("checkout_session"))
