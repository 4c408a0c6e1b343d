"""A story that hypothesis makes up: what has happened so far, how to look at it, and what must hold (I1 to I5).

What can happen next are the rules in `test_stateful.py`.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, invariant

from billing.coordination.jobs import Job, Notify, WorkLane, WorkOperations
from billing.database import Database
from billing.errors import IdempotencyMismatch
from billing.maintenance.sweep import sweep
from billing.models import checkouts, customers, events, metadata, operations, subscriptions
from billing.operations.calls import RUNNING
from billing.subscriptions.projection import is_live
from tests.support.builders import SECRET, MovableClock, deliver
from tests.support.checkout_world import World
from tests.support.crashing import Fuse, FusedStripe
from tests.support.operations_world import is_ending
from tests.support.receiving import receive
from tests.support.working import work_due

MUGS: list[dict[str, Any]] = [
    {"object": "product", "id": "prod_mug", "name": "A mug a month"},
    {"object": "price", "id": "price_mug", "product": "prod_mug", "currency": "usd", "unit_amount": 500}
    | {"recurring": {"interval": "month", "interval_count": 1}},
]


class Story(RuleBasedStateMachine):
    """One story; the sandbox and the clock begin anew, the ledger is emptied."""

    ledger: Database

    def __init__(self) -> None:
        super().__init__()
        with self.ledger.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        clock = MovableClock()
        clock.time = datetime(2026, 6, 1, 12, tzinfo=UTC)
        self.world = World(self.ledger, clock=clock)
        self.world.sandbox.seed(MUGS)
        self.world.stripe = FusedStripe(self.world.stripe, Fuse(1_000_000))  # type: ignore[assignment]  # a proxy; no threads
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}  # (user, key) -> (plan, checkout)
        self.asked: list[tuple[str, str]] = []  # (checkout, user)
        self.given: dict[str, int] = {}  # session -> the newest checkout that was shown its URL
        self.pages: list[str] = []  # payment pages in somebody's browser
        self.late: list[str] = []  # sessions whose payment is on its way
        self.banks: list[str] = []  # sessions whose buyer is being asked by their bank
        self.others: set[str] = set()  # sessions that are none of our product's
        self.by_hand: set[str] = set()  # what a person has expired
        self.delivered: set[str] = set()

    # --- what must hold

    @invariant()
    def holds(self) -> None:
        """I1: never two open sessions whose URLs were both given out. I2. I5: other products' sessions are not touched.

        I4: only a newer checkout may end the session that was given to an older one.
        """
        for ours in self.by_customer(self.world.sessions("open")).values():
            assert len([one for one in ours if one["id"] in self.given]) <= 1, "two open sessions were given out"
        for ours in self.by_customer(self.live()).values():
            assert len(ours) <= 1, "two live subscriptions"
        ended = self.expired_by_us()
        assert not self.others & ended, "another product's session was expired"
        for session_id in ended & self.given.keys():
            assert self.given[session_id] < self.last_number(session_id), "the newest checkout's session was expired"

    def teardown(self) -> None:
        """I3, I1 and W3: everything comes to rest, and then there is nothing left to be done."""
        self.world.sandbox.faults.clear()
        for _ in range(40):
            self.world.clock.advance(seconds=61)
            self.sweep()
            for event in self.world.objects("event"):
                if event["id"] not in self.delivered:
                    self.deliver(event)
            jobs, self.world.queue.sent = self.world.queue.sent, []
            for job in jobs:
                self.work(job)
            if not jobs:
                break
        assert not jobs, "something never comes to rest"
        with self.ledger.read() as connection:
            for table in (checkouts, operations, events):
                waiting = connection.scalars(sa.select(table.c.id).where(table.c.status == "pending")).all()
                assert waiting == [], f"stuck: {table.name}"
            columns = ("subscription_id", "status", "cancel_at_period_end", "schedule_id")
            shown = connection.execute(sa.select(*(subscriptions.c[name] for name in columns))).all()
        facts = [(one["id"], one["status"], is_ending(one)) for one in self.world.objects("subscription")]
        assert sorted(row[:3] for row in shown) == sorted(facts)
        self.check_schedules({row.subscription_id: row.schedule_id for row in shown})
        for ours in self.by_customer(self.world.sessions("open")).values():
            assert len([one for one in ours if one["id"] not in self.others]) <= 1
        self.check_newest()
        self.holds()

    def check_schedules(self, shown: dict[str, str | None]) -> None:
        """SUB-34: what ended without an effect left nothing; a subscription has the one schedule that is shown."""
        for one in self.world.objects("subscription_schedule"):
            if one["status"] in RUNNING and is_live(self.find("subscription", one["subscription"])["status"]):
                assert len(one["phases"]) == 2, "a schedule was begun and left"
                assert shown[one["subscription"]] == one["id"]

    def check_newest(self) -> None:
        """I5: the newest checkout of each buyer was served or refused, whatever was left behind before it."""
        newest = {user: checkout_id for checkout_id, user in self.asked}  # the last one wins
        for user, checkout_id in newest.items():
            status = self.world.view(checkout_id, user=user).status.value
            assert status in ("open", "completed", "expired", "refused"), (user, status)

    # --- hands

    def ask(self, user: str, plan: str, key: str | None) -> None:
        """Record a checkout, or find the one that the key stands for."""
        known = self.keys.get((user, key)) if key else None
        try:
            recorded = self.world.record(plan, user=user, key=key)
        except IdempotencyMismatch:
            assert known is not None
            assert known[0] != plan
            return
        if recorded.replayed:
            assert known == (plan, recorded.checkout_id)
            return
        self.asked.append((recorded.checkout_id, user))
        if key:
            self.keys[user, key] = (plan, recorded.checkout_id)

    def work(self, job: Job, stripe: Any = None, database: Any = None) -> None:
        """What the worker's task does with a job."""
        hands = {"stripe": stripe or self.world.stripe, "database": database or self.ledger}
        if isinstance(job, WorkLane):
            self.world.work_lane(job.row_id, **hands)
        elif isinstance(job, WorkOperations):
            self.world.work_operations(job.row_id, **hands)
        elif not isinstance(job, Notify):
            places = {"queue": self.world.queue, "clock": self.world.clock, "catalog": self.world.catalog}
            work_due(**places, **hands)

    def sweep(self) -> None:
        """As beat does."""
        sweep(database=self.ledger, queue=self.world.queue, clock=self.world.clock)

    def deliver(self, event: Any) -> None:
        """A signed delivery, as Stripe sends it."""
        self.delivered.add(event["id"])
        body, header = deliver(event, at=self.world.clock.now())
        places: dict[str, Any] = {"database": self.ledger, "queue": self.world.queue, "clock": self.world.clock}
        receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **places)

    def owner(self, customer_id: str) -> str:
        """Whose customer it is."""
        with self.ledger.read() as connection:
            whose = sa.select(customers.c.user_id).where(customers.c.customer_id == customer_id)
            return str(connection.scalar(whose))

    def live(self) -> list[dict[str, Any]]:
        """Every live subscription at Stripe."""
        return [one for one in self.world.objects("subscription") if is_live(one["status"])]

    def session(self, session_id: str) -> dict[str, Any]:
        """One session, as Stripe has it now."""
        return self.find("checkout_session", session_id)

    def find(self, kind: str, id: str) -> dict[str, Any]:
        """One object of Stripe's."""
        [found] = [one for one in self.world.objects(kind) if one["id"] == id]
        return found

    def expired_by_us(self) -> set[str]:
        """The sessions that a request of ours has expired."""
        done = self.world.requests("POST", "/v1/checkout/sessions/")
        paths = [one["path"] for one in done if one["path"].endswith("/expire") and one["status"] == 200]
        return {path.split("/")[-2] for path in paths} - self.by_hand

    def number(self, checkout_id: str) -> int:
        """The checkout's place in its lane."""
        with self.ledger.read() as connection:
            return int(connection.scalar(sa.select(checkouts.c.number).where(checkouts.c.id == checkout_id)) or 0)

    def last_number(self, session_id: str) -> int:
        """The newest checkout of the lane that a session belongs to."""
        customer = self.session(session_id)["customer"]
        with self.ledger.read() as connection:
            user = sa.select(customers.c.user_id).where(customers.c.customer_id == customer).scalar_subquery()
            newest = sa.select(sa.func.max(checkouts.c.number)).where(checkouts.c.user_id == user)
            return int(connection.scalar(newest) or 0)

    @staticmethod
    def by_customer(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Grouped."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for one in found:
            groups.setdefault(one["customer"], []).append(one)
        return groups
