"""Erasing a user: over the sandbox, on both databases, and after a crash anywhere."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.wakeups import LocalWakeups
from billing.customers import store as customers_store
from billing.customers.customers import claim_customer
from billing.errors import NotErasable, UserErased
from billing.models import CheckoutStatus, customers, events, lanes, metadata, outbox
from billing.operations.decide import Kind
from billing.operations.requests import record_operation
from billing.operators.erase import count_holdings, erase_user
from billing.operators.erasure_store import Holdings
from billing.operators.lookup import customer_problem
from billing.subscriptions import product_trial
from tests.races.unlocked import NoLocks
from tests.support.builders import build_event
from tests.support.checkout_world import ORIGIN
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.reconcile_world import Shop as Delivered

CANARY = "canary"


class Shop(Delivered):
    """A shop whose buyers say something personal wherever they can."""

    def arrive(self, user: str = "user_1") -> None:
        """A user comes with an address."""
        with self.database.write() as connection:
            email = f"{CANARY}-{user}@example.com"
            customers_store.open_customer(connection, user_id=user, email=email, now=self.clock.now())

    def ask_personally(self, user: str = "user_1", plan: str = "standard") -> str:
        """A checkout with something personal in every field; its id."""
        said = f"{CANARY}-{user}"
        return self.ask(
            plan,
            user=user,
            key=f"{said}-{plan}",
            success_url=f"{ORIGIN}/ok?{said}",
            cancel_url=f"{ORIGIN}/no?{said}",
            client_reference_id=said,
            metadata={"note": said},
        )

    def change(self, kind: Kind, user: str = "user_1", **request: Any) -> None:
        """Record an operation."""
        record_operation(
            kind,
            request,
            user_id=user,
            idempotency_key=f"{CANARY}-{user}-{kind}",
            redirect_origins=[ORIGIN],
            catalog=self.catalog,
            **self.places(),
        )

    def ended(self, user: str = "user_1") -> str:
        """A user who bought, opened the portal, and whose subscription ended; their customer."""
        self.arrive(user)
        checkout_id = self.ask_personally(user)
        self.work()
        paid = self.sandbox.pay(str(self.view(checkout_id, user=user).session_id))
        self.told()
        self.change(Kind.PORTAL, user, return_url=f"{ORIGIN}/?{CANARY}-{user}")
        self.work()
        self.sandbox.request("DELETE", f"/v1/subscriptions/{paid['subscription']}")
        self.told()
        return str(paid["customer"])

    def subscribe_elsewhere(self, customer: str) -> None:
        """To another product."""
        price = {"currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}}
        other = self.sandbox.request("POST", "/v1/prices", {**price, "product_data": {"name": "x"}}).body["id"]
        method = self.sandbox.request("GET", "/v1/payment_methods", {"customer": customer}).body["data"][0]["id"]
        made = {"customer": customer, "items": [{"price": other}], "default_payment_method": method}
        assert self.sandbox.request("POST", "/v1/subscriptions", made).status == 200

    def told(self) -> None:
        """What Stripe says arrives, a little of it a second time, and is worked."""
        self.queue.sent.clear()
        made = self.made()
        known = len(self.rows(events))
        self.deliver(made[max(0, known - 2) :])
        self.work_events()

    def erase(self, user: str = "user_1", **instead: Any) -> Holdings:
        """As the command does it."""
        collaborators: dict[str, Any] = {
            "reason": "asked for by letter",
            "delete_at_stripe": False,
            "database": self.database,
            "stripe": self.stripe,
            "locks": self.locks,
            "queue": self.queue,
            "wakeups": self.wakeups,
            "clock": self.clock,
            "catalog": self.catalog,
        }
        return erase_user(user, **collaborators | instead)

    def holdings(self, user: str = "user_1", **instead: Any) -> Any:
        """What erasing would remove."""
        rest: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "catalog": self.catalog}
        return count_holdings(user, **{"delete_at_stripe": False, **rest, **instead})

    def dump(self) -> str:
        """The whole ledger as text."""
        return "\n".join(str(tuple(row)) for table in metadata.sorted_tables for row in self.rows(table))

    def row(self, user: str = "user_1") -> Any:
        """The user's tombstone."""
        return next(row for row in self.rows(customers) if row.user_id == user)


class Hooked:
    """A Stripe in front of which something happens once, right before a call of that name."""

    def __init__(self, stripe: Any, name: str, hook: Callable[[], object]) -> None:
        self._stripe, self._name, self._hook = stripe, name, hook
        self._due = True

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._stripe, name)
        if name != self._name or not self._due:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            if self._due:
                self._due = False
                self._hook()
            return real(*arguments, **options)

        return call


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


# --- what goes


def test_everything_personal_is_gone_and_ids_stay(shop):
    """SUB-50: and nothing of another user's."""
    customer = shop.ended("user_1")
    shop.ended("user_2")
    assert shop.dump().count(f"{CANARY}-user_1") > 5
    before = shop.dump().count(f"{CANARY}-user_2")
    counted = shop.holdings().holdings

    removed = shop.erase()

    assert f"{CANARY}-user_1" not in shop.dump()
    assert shop.dump().count(f"{CANARY}-user_2") == before
    assert removed == counted
    assert all(counted.as_dict().values()), "every kind was there"
    row = shop.row()
    assert (row.customer_id, row.erasure_reason) == (customer, "asked for by letter")
    assert row.erasure_finished_at == shop.clock.now()
    assert shop.erase() == Holdings(), "once more changes nothing"
    assert shop.holdings().holdings == Holdings()


def test_what_was_not_sent_yet_is_not_sent(shop):
    """SUB-50: messages that wait go with the rest."""
    shop.ended()
    assert {row.status for row in shop.rows(outbox)} == {"pending"}
    shop.erase()
    assert {(row.status, str(row.payload)) for row in shop.rows(outbox)} == {("erased", "{}")}


def test_user_without_any_customer_is_erased_too(shop):
    """SUB-50: somebody who signed up and never bought."""
    shop.arrive()
    assert shop.erase() == Holdings(emails=1)
    assert CANARY not in shop.dump()
    with pytest.raises(NotErasable, match="no user"):
        shop.erase("user_9")


def test_user_who_only_had_a_product_trial_is_erased_too(shop):
    """SUB-50, SUB-55: they have no row of a customer; a look changes nothing, and erasing leaves the tombstone."""
    now = shop.clock.now()
    with shop.database.write() as connection:
        product_trial.begin(connection, "user_1", shop.catalog.product, days=7, now=now)
    before = shop.dump()
    assert shop.holdings().holdings == Holdings()
    assert shop.dump() == before
    assert shop.erase() == Holdings()
    assert (shop.row().erased_at, shop.row().erasure_finished_at) == (now, now)
    with pytest.raises(UserErased):
        shop.ask_personally()
    with pytest.raises(NotErasable, match="no user"):
        shop.erase("user_2")


# --- what comes late


def test_nothing_that_comes_late_brings_it_back(shop):
    """SUB-51, faults row 77: an event, a dispute that names no customer, reconciling, and a change at Stripe."""
    customer = shop.ended()
    shop.erase()
    messages = len(shop.rows(outbox))
    shop.sandbox.request("POST", f"/v1/customers/{customer}", {"name": CANARY})
    charge = shop.objects("charge")[0]["id"]
    dispute = {"id": "dp_1", "object": "dispute", "charge": charge, "evidence": {"customer_name": CANARY}}
    shop.deliver([build_event("charge.dispute.created", dispute)])
    shop.work_events()
    assert CANARY not in shop.dump()

    shop.reconcile(thorough=True)
    shop.work_events()
    shop.sandbox.request(
        "POST",
        "/v1/subscriptions",
        {"customer": customer, "items": [{"price": shop.catalog.plans["standard"].price}], "metadata": {"x": CANARY}},
    )
    shop.told()

    assert len(shop.projection()) == 2, "what Stripe has is still followed"
    assert CANARY not in shop.dump()
    assert len(shop.rows(outbox)) == messages
    assert all(event.payload is None for event in shop.rows(events) if event.customer_id == customer)


# --- who is not erased


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid", "paused", "trialing"])
def test_who_is_still_billed_is_not_erased_and_told_why(shop, status):
    """SUB-52"""
    shop.arrive()
    shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]["id"]
    shop.sandbox.force_status(subscription, status)
    before = shop.dump()
    assert shop.holdings().live == [subscription]
    with pytest.raises(NotErasable, match=f"{subscription}.*Cancel it first"):
        shop.erase()
    assert shop.dump() == before
    assert shop.ended("user_2")
    shop.erase("user_2")


def test_payment_on_its_way_keeps_a_user(shop):
    """SUB-52: a debit that takes days."""
    checkout = shop.served()
    shop.sandbox.pay(str(checkout.session_id), delayed=True)
    with pytest.raises(NotErasable, match="Cancel it first"):
        shop.erase()
    assert shop.row().erased_at is None


def test_open_page_is_expired_first(shop):
    """SUB-53"""
    checkout = shop.served()
    shop.erase()
    assert [one["status"] for one in shop.sessions()] == ["expired"]
    assert shop.view(checkout.id).url is None


def test_page_that_was_paid_in_the_last_moment_keeps_its_user(shop):
    """SUB-53, and then they go on as before."""
    shop.arrive()
    checkout_id = shop.ask_personally()
    shop.work()
    session = str(shop.view(checkout_id).session_id)
    paying = Hooked(shop.stripe, "expire_session", lambda: shop.sandbox.pay(session))
    with pytest.raises(NotErasable, match="sub_"):
        shop.erase(stripe=paying)
    assert shop.row().erased_at is None
    assert CANARY in shop.dump()
    assert shop.served("commit").error["code"] == "already_subscribed"


# --- interrupted


def test_run_that_is_killed_anywhere_is_finished_by_the_next(shop, monkeypatch):
    """SUB-54: at each call to Stripe and each commit, with small batches."""
    monkeypatch.setattr("billing.operators.erase.BATCH", 8)
    for steps in count(1):
        user = f"user_{steps}"
        shop.ended(user)
        shop.ask_personally(user, "commit")
        shop.work()
        fuse = Fuse(steps)
        fused = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
        try:
            shop.erase(user, **fused)
        except Crash:
            shop.erase(user)
        assert f"{CANARY}-{user}" not in shop.dump()
        assert shop.row(user).erasure_finished_at is not None
        assert shop.sessions("open") == []
        if not fuse.burnt:
            break
    assert steps > 15


def test_who_paid_between_a_killed_run_and_the_next_is_served_again(shop):
    """SUB-53, SUB-54: a mark that was left behind does not lock out a subscriber."""
    shop.arrive()
    checkout = shop.served()
    with pytest.raises(Crash):  # right after the mark
        shop.erase(database=FusedDatabase(shop.database, Fuse(4)))
    assert shop.row().erased_at is not None
    shop.sandbox.pay(str(checkout.session_id))
    with pytest.raises(NotErasable):
        shop.erase()
    assert shop.row().erased_at is None


@pytest.mark.parametrize("has_email", [True, False])
@pytest.mark.parametrize("batches", [1, 3, None], ids=["one batch", "three batches", "to the end"])
def test_what_was_begun_is_never_taken_back(shop, batches, has_email):
    """SUB-54, SUB-56: a run ends after some batches, and the next is refused for a subscription to another product."""
    customer = shop.ended()
    if not has_email:
        with shop.database.write() as connection:
            connection.execute(sa.text("UPDATE customers SET parameters = '{\"metadata\": {}}'"))
    left = batches

    def progress(rows: int) -> None:
        nonlocal left
        if left is not None and (left := left - 1) == 0:
            raise Crash

    with suppress(Crash):
        shop.erase(progress=progress)
    shop.subscribe_elsewhere(customer)
    before = shop.dump()
    with pytest.raises(NotErasable, match="stay erased") as refusal:
        shop.erase(delete_at_stripe=True)
    assert "Nothing was erased" not in str(refusal.value)
    assert shop.dump() == before
    with pytest.raises(UserErased):
        shop.ask_personally()
    shop.erase()
    assert CANARY not in shop.dump()
    assert shop.row().erasure_finished_at is not None


# --- who comes afterwards, or meanwhile


def test_requests_for_somebody_erased_are_refused_and_leave_nothing(shop):
    """SUB-55"""
    shop.ended()
    shop.erase()
    before = shop.dump()
    with pytest.raises(UserErased):
        shop.ask_personally()
    with pytest.raises(UserErased):
        shop.change(Kind.PORTAL, return_url=f"{ORIGIN}/")
    with pytest.raises(UserErased):
        claim_customer("user_1", "cus_other", database=shop.database, clock=shop.clock)
    assert customer_problem("user_1", "cus_other", database=shop.database) == "this user was erased"
    assert shop.dump() == before


def test_checkout_that_waits_during_the_erasure_is_refused_and_makes_no_page(shop):
    """SUB-55: its worker is past everything but the creation when the user is erased."""
    shop.arrive()
    checkout_id = shop.ask_personally()
    erased: list[Holdings] = []
    meanwhile = Hooked(shop.stripe, "list_subscriptions", lambda: erased.append(shop.erase(wakeups=LocalWakeups())))
    shop.work_lane(1, stripe=meanwhile)
    shop.work()
    assert erased
    assert shop.view(checkout_id).error["code"] == "user_erased"
    assert shop.creates() == 0
    assert CANARY not in shop.dump()


def test_requests_that_come_together_with_the_mark_are_all_answered(shop):
    """SUB-55: each is either refused at the door or turned away; none waits for ever, none gets a page."""
    shop.arrive()

    def ask(number: int) -> str | None:
        try:
            return shop.ask("commit", metadata={"note": f"{CANARY}-{number}"})
        except UserErased:
            return None

    with ThreadPoolExecutor(9) as together:
        asked = [together.submit(ask, number) for number in range(4)]
        erasing = together.submit(shop.erase)
        asked += [together.submit(ask, number) for number in range(4, 12)]
        erasing.result()
        taken = [id_ for one in asked if (id_ := one.result())]
    shop.work()
    assert {shop.view(id_).status for id_ in taken} <= {CheckoutStatus.REFUSED, CheckoutStatus.SUPERSEDED}
    assert shop.sessions("open") == []
    assert CANARY not in shop.dump()


class Hook(Fuse):
    """Nobody dies at its end: something happens there, once, and whoever is on it goes on."""

    def __init__(self, steps: int, hook: Callable[[], object]) -> None:
        super().__init__(steps)
        self._hook = hook

    def step(self) -> None:
        """One step closer."""
        self.left -= 1
        if self.left == 0:
            self.burnt = True
            self._hook()


def test_erasure_at_any_step_of_a_checkout_leaves_no_page(shop):
    """SUB-53, SUB-55: before and after each call and commit of the worker, which has the lock and goes on."""
    for steps in count(1):
        user = f"user_{steps}"
        shop.arrive(user)
        shop.ask_personally(user)
        (job,) = shop.queue.sent
        shop.queue.sent.clear()
        hook = Hook(steps, lambda user=user: shop.erase(user))
        on_it = {"stripe": FusedStripe(shop.stripe, hook), "database": FusedDatabase(shop.database, hook)}
        shop.work_lane(job.row_id, **on_it)
        shop.work()
        if not hook.burnt:
            break
        assert shop.sessions("open") == []
        assert f"{CANARY}-{user}" not in shop.dump()
        assert all(one.state == "closed" for one in shop.rows(lanes))
    assert steps > 12


def test_checkout_at_any_step_of_an_erasure_leaves_no_page(shop):
    """SUB-53, SUB-55: the whole of it, and the buyer pays if they get a page; no lock keeps the worker out."""
    outcomes = set()
    for steps in count(1):
        user = f"user_{steps}"
        shop.arrive(user)
        paid: list[str] = []

        def buy(user: str = user, paid: list[str] = paid) -> None:
            with suppress(UserErased):
                checkout_id = shop.ask_personally(user)
                shop.work()
                if (view := shop.view(checkout_id, user=user)).session_id:
                    paid.append(str(shop.sandbox.pay(view.session_id)["subscription"]))

        hook = Hook(steps, buy)
        on_it = {"stripe": FusedStripe(shop.stripe, hook), "database": FusedDatabase(shop.database, hook)}
        with suppress(NotErasable):
            shop.erase(user, locks=NoLocks(), **on_it)
        shop.work()
        erased = shop.row(user).erased_at is not None
        assert erased is (not paid), "who paid is a subscriber, and nobody else is"
        outcomes.add(erased)
        assert shop.sessions("open") == []
        assert (f"{CANARY}-{user}" in shop.dump()) is bool(paid)
        if not hook.burnt:
            break
    assert steps > 8
    assert outcomes == {True, False}


def test_operation_that_waits_is_refused(shop):
    """SUB-55"""
    shop.ended()
    shop.change(Kind.CANCEL)
    shop.erase()
    shop.work()
    with shop.database.read() as connection:
        found = connection.execute(sa.text("SELECT status FROM operations WHERE kind = 'cancel'")).scalars().all()
    assert found == ["refused"]


# --- at Stripe


def test_customer_at_stripe_goes_only_when_asked_for(shop):
    """SUB-56"""
    customer = shop.ended()
    shop.erase()
    assert "deleted" not in shop.sandbox.request("GET", f"/v1/customers/{customer}").body
    shop.erase(delete_at_stripe=True)
    assert shop.sandbox.request("GET", f"/v1/customers/{customer}").body["deleted"] is True
    shop.erase(delete_at_stripe=True)
    shop.told()
    assert CANARY not in shop.dump()


def test_customer_with_a_subscription_to_another_product_is_not_deleted(shop):
    """SUB-56: erased here, yes."""
    shop.subscribe_elsewhere(shop.ended())
    assert (len(shop.holdings(delete_at_stripe=True).live), len(shop.holdings().live)) == (1, 0)
    with pytest.raises(NotErasable):
        shop.erase(delete_at_stripe=True)
    assert shop.row().erased_at is None
    shop.erase()
    assert CANARY not in shop.dump()
