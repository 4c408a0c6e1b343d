"""Whatever people, networks and clocks do one after the other: hypothesis makes the story up, on both databases.

Buyers ask, look, pay, are declined or asked by their bank, and leave; subscribers cancel, reactivate, switch and take
it back; workers work, crash at any call, and are woken twice or never; Stripe loses answers and delivers late, twice or
shuffled; sessions are expired and subscriptions canceled by hand; hours pass.
What must hold (`story.py`) is looked at after every step, and in the end everything has to come to rest. A failure
prints its story; `STATEFUL_EXAMPLES=1000` tells more of them and makes the one that fails as short as it can.
"""

import os
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from billing.database import Database
from billing.errors import NoSubscription
from billing.operations.calls import Kind
from billing.operations.requests import record_operation
from sandbox.errors import ApiError
from sandbox.faults import Faults
from tests.races.changing import WISHES as WISHES_KNOWN
from tests.races.story import Story
from tests.races.surroundings import POSTS
from tests.support.checkout_world import ORIGIN
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe

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


class Told(Story):
    """What can happen next."""

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
        self.sweep()

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
    run_state_machine_as_test(type("Told", (Told,), {"ledger": quick}), settings=STORY)
