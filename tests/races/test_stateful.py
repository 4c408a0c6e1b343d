"""Whatever people, networks and clocks do one after the other: hypothesis makes the story up, on both databases.

Buyers ask, look, pay, are declined or asked by their bank, and leave; subscribers cancel, reactivate, switch and take
it back; workers work, crash at any call, and are woken twice or never; Stripe loses answers and delivers late, twice or
shuffled; sessions are expired and subscriptions canceled by hand; hours pass.
I1, I2, I4 and I5 are looked at after every step, and in the end everything has to come to rest. A failure prints its
story; `STATEFUL_EXAMPLES=1000` tells more of them and makes the one that fails as short as it can.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from billing.database import Database
from billing.errors import IdempotencyMismatch, NoSubscription
from billing.jobs import Job, WorkLane, WorkOperations
from billing.models import checkouts, customers, events, metadata, operations, subscriptions
from billing.operations.deciding import RUNNING, Kind
from billing.operations.requests import record_operation
from billing.subscriptions.projection import is_live
from billing.sweeper import sweep
from billing.webhooks.ingest import receive
from billing.webhooks.processing import process_event
from sandbox.errors import ApiError
from sandbox.faults import Faults
from tests.builders import SECRET, deliver
from tests.checkout_world import ORIGIN, TestClock, World
from tests.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.races.changing import WISHES as WISHES_KNOWN
from tests.races.surroundings import POSTS

MUGS: list[dict[str, Any]] = [
    {"object": "product", "id": "prod_mug", "name": "A mug a month"},
    {"object": "price", "id": "price_mug", "product": "prod_mug", "currency": "usd", "unit_amount": 500}
    | {"recurring": {"interval": "month", "interval_count": 1}},
]
USERS, PLANS = ("ann", "ann", "bob"), ("standard", "commit")
WISHES = ("switch", "cancel", "undo", "switch", "reactivate", "cancel")
FAULTS = ("drop_before", "drop_after", "save_500_with_effect", "save_500_without_effect", "truncated", "html")
EXAMPLES = os.environ.get("STATEFUL_EXAMPLES")
STORY = settings(
    max_examples=int(EXAMPLES or 18),  # a story takes about 0.3 s
    phases=list(Phase) if EXAMPLES else [Phase.generate],
    stateful_step_count=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
any_of = st.integers(0, 1000)  # taken modulo what there is


class Story(RuleBasedStateMachine):
    """One story; the sandbox and the clock begin anew, the ledger is emptied."""

    ledger: Database

    def __init__(self) -> None:
        super().__init__()
        with self.ledger.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        clock = TestClock()
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

    # --- buyers

    @rule(
        user=st.sampled_from(USERS),
        plan=st.sampled_from(PLANS),
        key=st.sampled_from([None, None, "k1", "k2"]),
        waits=st.booleans(),
    )
    def asks(self, user: str, plan: str, key: str | None, waits: bool) -> None:
        """Whoever waits is served meanwhile. CHK-10 on the way: a key stands for one body."""
        self.ask(user, plan, key)
        if waits:
            self.works(0, jobs=3)
            self.looks(0)

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

    @precondition(lambda self: self.asked)
    @rule(which=st.sampled_from([0, 0, 1, 2, 3]))
    def looks(self, which: int) -> None:
        """I4: nobody is given the URL of a session that was expired before."""
        checkout_id, user = self.asked[-1 - which % len(self.asked)]
        view = self.world.view(checkout_id, user=user)
        if view.url is None:
            return
        session_id = str(view.session_id)
        if self.session(session_id)["status"] == "expired":  # by Stripe's clock, or a person's hand: nobody told us yet
            assert session_id not in self.expired_by_us(), "a buyer was given a session that we had expired"
        self.given[session_id] = max(self.given.get(session_id, 0), self.number(checkout_id))
        self.pages.append(session_id)

    @precondition(lambda self: self.pages)
    @rule(which=any_of, how=st.sampled_from(["pays", "pays", "pays later", "is declined", "is asked", "leaves"]))
    def at_the_page(self, which: int, how: str) -> None:
        """A page in a browser does what it can as long as its session is open."""
        session_id = self.pages.pop(which % len(self.pages))
        if how == "leaves" or self.session(session_id)["status"] != "open":
            return
        if how == "is declined":
            self.world.sandbox.decline(session_id)
            self.pages.append(session_id)
            return
        if how == "is asked":
            self.world.sandbox.challenge(session_id)
            self.banks.append(session_id)
            return
        done = self.world.sandbox.pay(session_id, delayed=how == "pays later")
        if done["payment_status"] == "unpaid":
            self.late.append(session_id)

    @precondition(lambda self: self.banks)
    @rule(which=any_of, succeeds=st.booleans())
    def answers_their_bank(self, which: int, succeeds: bool) -> None:
        """At last; the session may be over by then, and so is the payment."""
        session_id = self.banks.pop(which % len(self.banks))
        with suppress(ApiError):
            self.world.sandbox.authenticate(session_id, succeeds=succeeds)
        self.pages.append(session_id)

    @rule(user=st.sampled_from(USERS), plan=st.sampled_from(PLANS), how=st.sampled_from(["pays", "is asked"]))
    def buys(self, user: str, plan: str, how: str) -> None:
        """All at once, as it mostly goes; then there is somebody with something to be changed."""
        self.asks(user, plan, None, waits=True)
        if self.pages:
            self.at_the_page(len(self.pages) - 1, how)
            self.delivers(0, events=12, times=1)
            self.works(0, jobs=3)

    @precondition(lambda self: self.live())
    @rule(which=any_of, wish=st.sampled_from(WISHES), waits=st.booleans())
    def wishes(self, which: int, wish: str, waits: bool) -> None:
        """A subscriber, or somebody who thinks that they are one, changes their mind."""
        kind, request = WISHES_KNOWN[wish]
        subscription = self.live()[which % len(self.live())]
        user, price = self.owner(subscription["customer"]), subscription["items"]["data"][0]["price"]["id"]
        if kind is Kind.SWITCH:
            request = {"plan": next(plan for plan in PLANS if self.world.catalog.plans[plan].price != price)}
        places: dict[str, Any] = {"database": self.ledger, "queue": self.world.queue, "clock": self.world.clock}
        places |= {"catalog": self.world.catalog, "redirect_origins": [ORIGIN], "idempotency_key": None}
        with suppress(NoSubscription):
            record_operation(kind, request, user_id=user, **places)
        if waits:
            self.works(0, jobs=3)

    @precondition(lambda self: self.late)
    @rule(succeeds=st.booleans())
    def late_payment_arrives(self, succeeds: bool) -> None:
        """Or does not."""
        session = self.session(self.late.pop())
        if self.find("subscription", session["subscription"])["status"] != "canceled":
            self.world.sandbox.settle(session["id"], succeeds=succeeds)

    # --- workers

    @precondition(lambda self: self.world.queue.sent)
    @rule(which=any_of, jobs=st.integers(1, 4))
    def works(self, which: int, jobs: int) -> None:
        """A few jobs, in no particular order."""
        sent = self.world.queue.sent
        for _ in range(min(jobs, len(sent))):
            self.work(sent.pop(which % len(sent)))

    @precondition(lambda self: self.world.queue.sent)
    @rule(which=any_of, steps=st.integers(1, 40), comes_back=st.booleans())
    def works_and_crashes(self, which: int, steps: int, comes_back: bool) -> None:
        """Before or after any call or commit; its message may be delivered again, or lost."""
        sent = self.world.queue.sent
        job = sent.pop(which % len(sent))
        fuse = Fuse(steps)
        try:
            self.work(job, FusedStripe(self.world.stripe, fuse), FusedDatabase(self.ledger, fuse))
        except Crash:
            if comes_back:
                self.world.queue.send(job)

    @rule()
    def sweeps(self) -> None:
        """As beat does."""
        sweep(database=self.ledger, queue=self.world.queue, clock=self.world.clock)

    # --- Stripe and the network

    @precondition(lambda self: len(self.world.objects("event")) > 0)
    @rule(which=any_of, events=st.integers(1, 6), times=st.integers(1, 2))
    def delivers(self, which: int, events: int, times: int) -> None:
        """Some events, new or old, once or twice, the newest first."""
        made = self.world.objects("event")
        begin = which % len(made)
        for event in made[begin : begin + events] * times:
            self.deliver(event)

    @precondition(lambda self: not self.world.sandbox.faults.shown())
    @rule(kind=st.sampled_from(FAULTS))
    def next_write_goes_wrong(self, kind: str) -> None:
        """An answer that is lost, unreadable, or a saved failure."""
        self.world.sandbox.faults.add(kind, method="POST", path=POSTS)

    @rule(minutes=st.sampled_from([1, 1, 6, 16, 61, 300, 1441]))
    def time_passes(self, minutes: int) -> None:
        """A minute to a day."""
        self.world.clock.advance(minutes=minutes)

    # --- a person at the Dashboard

    @precondition(lambda self: self.world.sessions("open"))
    @rule(which=any_of)
    def session_is_expired_by_hand(self, which: int) -> None:
        """Whoever it belongs to."""
        found = self.world.sessions("open")
        session_id = found[which % len(found)]["id"]
        self.by_hand.add(session_id)
        self.world.sandbox.request("POST", f"/v1/checkout/sessions/{session_id}/expire")

    @precondition(lambda self: self.live())
    @rule(which=any_of)
    def subscription_is_canceled(self, which: int) -> None:
        """At once."""
        found = self.live()
        self.world.sandbox.request("DELETE", f"/v1/subscriptions/{found[which % len(found)]['id']}")

    @precondition(lambda self: self.world.objects("customer") and not self.others)
    @rule()
    def another_product_sells(self) -> None:
        """A session that is none of our business."""
        customer = self.world.objects("customer")[0]["id"]
        made: dict[str, Any] = {"mode": "subscription", "customer": customer, "success_url": "https://shop.example"}
        made["line_items"] = [{"price": "price_mug", "quantity": 1}]
        mishaps, self.world.sandbox.faults = self.world.sandbox.faults, Faults()  # those are ours to meet
        answer = self.world.sandbox.request("POST", "/v1/checkout/sessions", made)
        self.world.sandbox.faults = mishaps
        assert answer.status == 200, answer.body
        self.others.add(answer.body["id"])

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
            self.sweeps()
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
        facts = [(one["id"], one["status"], one["cancel_at_period_end"]) for one in self.world.objects("subscription")]
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

    def work(self, job: Job, stripe: Any = None, database: Any = None) -> None:
        """What the worker's task does with a job."""
        hands = {"stripe": stripe or self.world.stripe, "database": database or self.ledger}
        if isinstance(job, WorkLane):
            self.world.work_lane(job.row_id, **hands)
        elif isinstance(job, WorkOperations):
            self.world.work_operations(job.row_id, **hands)
        else:
            places = {"queue": self.world.queue, "clock": self.world.clock, "catalog": self.world.catalog}
            process_event(job.row_id, **places, **hands)

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


@pytest.fixture
def quick(database: Database) -> Database:
    """A ledger that need not survive a power cut."""
    if database.is_sqlite:
        sa.event.listen(database.engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        database.close()  # the connections of the migration
    return database


@pytest.mark.timeout(3600 if EXAMPLES else 240)
def test_every_story_keeps_the_invariants_and_comes_to_rest(quick: Database) -> None:
    """LAN-1, LAN-8, LAN-50, CHK-1, CHK-4, WHK-13, LED-5, LED-8, SUB-30, SUB-34, SUB-36.

    I1 to I5 of the protocol, W2 and W3 of the webhooks.
    """
    run_state_machine_as_test(type("Told", (Story,), {"ledger": quick}), settings=STORY)
