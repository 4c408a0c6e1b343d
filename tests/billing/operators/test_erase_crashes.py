"""Erasing that is killed anywhere, or meets checkouts and operations at any of their steps."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest
import sqlalchemy as sa

from billing.coordination.wakeups import LocalWakeups
from billing.errors import UserErased
from billing.models import CheckoutStatus, lanes
from billing.operations.calls import Kind
from billing.operators.erase import NotErasable
from billing.operators.erasure_store import Holdings
from tests.races.unlocked import NoLocks
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.erase_world import CANARY, Hooked


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
    shop.change_personally(Kind.CANCEL)
    shop.erase()
    shop.work()
    with shop.database.read() as connection:
        found = connection.execute(sa.text("SELECT status FROM operations WHERE kind = 'cancel'")).scalars().all()
    assert found == ["refused"]
