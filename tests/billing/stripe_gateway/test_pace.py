"""The pace of requests to Stripe: the rules with a clock of the test's own, then threads, then workers together."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from billing.clock import SYSTEM_CLOCK
from billing.coordination.queue import InlineQueue
from billing.errors import StripeBusy, StripeUnclear
from billing.models import events
from billing.stripe_gateway import GatewayClient
from billing.stripe_gateway import pace as stripe_pace
from billing.stripe_gateway.pace import BLAME_SECONDS, Pace, Turns
from billing.webhooks import events_store
from sandbox.core import Sandbox
from tests.support.builders import build_event, build_subscription
from tests.support.in_process import API_KEY, InProcess, gateway
from tests.support.working import work_due


def drain(turns, *, until, step=0.001, start=1000.0):
    """Call whoever may go, from moment to moment; the moments at which somebody went."""
    gone, now = [], start
    while now < start + until:
        while turns.call(now):
            gone.append(round(now - start, 3))
        now += step
    return gone


def test_a_seconds_worth_goes_at_once_and_then_one_after_the_other():
    """WHK-60"""
    turns = Turns(20)
    for _ in range(200):
        turns.join(buyer=True)
    gone = drain(turns, until=3)
    assert gone.count(0.0) == 20
    assert 79 <= len(gone) <= 81, "20 at once, and 20 in each second after that"


@pytest.mark.parametrize("rate", [0.5, 1, 3])
def test_small_budgets_let_one_go_at_once(rate):
    """WHK-60"""
    turns = Turns(rate)
    for _ in range(10):
        turns.join(buyer=True)
    assert turns.call(1000.0)


def test_buyers_go_first_and_every_fifth_turn_is_the_others():
    """WHK-61"""
    turns = Turns(1)
    turns.join(buyer=False)
    drain(turns, until=1)  # the budget is spent
    others = [turns.join(buyer=False) for _ in range(10)]
    buyers = [turns.join(buyer=True) for _ in range(8)]
    order = []
    for second in range(1, 19):
        assert turns.call(1000.0 + second + 0.001)
        order.append("b" if sum(one.called for one in buyers) > order.count("b") else "o")
    assert "".join(order) == "bbbbobbbbooooooooo"
    assert all(one.called for one in others)


def test_lane_that_asked_least_in_this_minute_goes_first():
    """WHK-130; faults row 128: whatever the order in which they came; after a minute it is forgotten."""
    turns = Turns(1)
    turns.join(buyer=True, lane=1)
    drain(turns, until=1)
    waiting = [turns.join(buyer=True, lane=lane) for lane in (1, 1, 2, None)]
    order = []
    for second in range(1, 5):
        assert turns.call(1000.0 + second + 0.001)
        order.append(next(number for number, one in enumerate(waiting) if one.called and number not in order))
    assert order == [2, 3, 0, 1]
    older, newer = turns.join(buyer=True, lane=1), turns.join(buyer=True, lane=3)
    assert turns.call(1100.0)
    assert (older.called, newer.called) == (True, False)


def test_part_of_the_budget_is_kept_for_who_comes_for_the_first_time():
    """WHK-130; faults row 128: ten at once are there for a first checkout, however many of the others wait."""
    turns = Turns(20)
    for lane in range(16):
        for _ in range(40):
            turns.join(buyer=True, lane=lane)
    gone = drain(turns, until=20)
    assert 390 <= len(gone) <= 420, "the whole budget is used"
    first = [turns.join(buyer=True, lane=99) for _ in range(7)]
    gone = drain(turns, until=0.01, start=1020.0)
    assert all(one.called for one in first)
    assert len(gone) <= 8


def test_small_budget_keeps_nothing_back():
    """WHK-130: else who asked often would wait for ever."""
    turns = Turns(1)
    for _ in range(30):
        turns.join(buyer=True, lane=1)
    assert len(drain(turns, until=29, step=0.01)) >= 29


def test_others_have_their_turn_while_buyers_wait_for_what_is_kept():
    """WHK-61, WHK-130"""
    turns = Turns(20)
    for _ in range(30):
        turns.join(buyer=True, lane=1)
    drain(turns, until=1)
    other = turns.join(buyer=False)
    drain(turns, until=0.1, start=1001.0)
    assert other.called


def test_calls_in_parallel_are_their_lanes():
    """WHK-130"""
    [stripe] = processes(Sandbox(), 1)
    pace = stripe._client._requestor._get_http_client().pace
    with stripe_pace.for_lane(7):
        stripe.in_parallel(stripe.account, stripe.account, stripe.account)
    stripe.account()
    assert pace._turns._used.count(7, pace._clock()) == 3


def test_refusal_halves_the_rate_once_and_it_comes_back():
    """WHK-62: twenty requests that were in flight together are refused together."""
    turns = Turns(20)
    for number in range(20):
        turns.refused(1000.0 + number / 1000, pause=0.75)
    assert turns.rate == 10
    turns.refused(1000.0 + BLAME_SECONDS, pause=0.75)
    assert turns.rate == 5
    for _ in range(1000):
        turns.join(buyer=True)
    start = 1000.0 + BLAME_SECONDS
    gone = drain(turns, until=40, start=start)
    assert gone[0] >= 0.75, "nothing goes out in the pause"
    assert turns.rate == 20
    assert sum(moment < 2 for moment in gone) < 20, "it comes back by and by"
    for number in range(100):
        turns.refused(2000.0 + 2 * number, pause=0.5)
    assert turns.rate == 1, "and never stops asking"


def test_threads_share_the_budget_and_buyers_overtake():
    """WHK-60, WHK-61: a clock that only the test moves; who waits is called when there is a turn."""
    time, guard = [0.0], threading.Lock()
    pace = Pace(16, clock=lambda: time[0])
    for _ in range(16):  # 1/16 is exact
        pace.wait()
    order: list[str] = []

    def ask(name, buyer):
        pace.wait(buyer=buyer)
        with guard:
            order.append(name)

    threads = [threading.Thread(target=ask, args=(f"event {n}", False), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    while len(pace._turns._others) < 3:
        threading.Event().wait(0.001)
    threads.append(threading.Thread(target=ask, args=("buyer", True), daemon=True))
    threads[-1].start()
    while not pace._turns._buyers:
        threading.Event().wait(0.001)
    assert order == []
    for second in range(1, 5):
        time[0] = second * 0.0626
        while len(order) < second:
            threading.Event().wait(0.001)
    assert order[0] == "buyer"
    assert len(order) == 4
    for thread in threads:
        thread.join()


def test_who_waits_for_too_long_gives_up_its_place(monkeypatch):
    """WHK-120: the only turn for the next thousand seconds has been taken."""
    monkeypatch.setattr(stripe_pace, "WAIT_SECONDS", 0.05)
    pace = Pace(0.001)
    pace.wait()
    for buyer in (True, False):
        with pytest.raises(StripeBusy):
            pace.wait(buyer=buyer)
    assert not pace._turns.call(float("inf")), "nobody stands in line any more"


def test_repetitions_of_the_sdk_wait_for_their_turn_too():
    """WHK-60"""
    sandbox = Sandbox()
    stripe = gateway(sandbox)
    paced = stripe._client._requestor._get_http_client()
    turns: list[bool] = []
    paced.pace.wait = lambda *, buyer: turns.append(buyer)
    sandbox.faults.add("drop_before", path="/v1/subscriptions")
    with pytest.raises(Exception, match="Stripe refused"):
        stripe.list_subscriptions("cus_nobody")
    assert turns == [True, True]
    turns.clear()
    with pytest.raises(Exception, match="Stripe refused"):
        stripe.low_priority().list_subscriptions("cus_nobody")
    assert turns == [False]


def processes(sandbox, count):
    """As many gateways with a budget of their own, 40 a second."""
    address = {"api_base": "http://sandbox.invalid", "timeout_seconds": 5, "clock": SYSTEM_CLOCK}
    return [GatewayClient(API_KEY, **address, pace=Pace(40), http_client=InProcess(sandbox)) for _ in range(count)]


def test_refused_processes_slow_down_also_when_nobody_backs_off():
    """WHK-62: who asks again at once after each 429 would be refused five times for each answer, at 160 a second."""
    sandbox = Sandbox()
    sandbox.faults.add("rate_limit", path="/v1/", per_second=25, times=None)

    def ask(stripe):
        refused, answered = 0, 0
        while answered < 15:
            try:
                stripe.account()
                answered += 1
            except StripeUnclear:
                refused += 1
        return refused

    with ThreadPoolExecutor(12) as threads:
        refused = sum(threads.map(ask, processes(sandbox, 4) * 3))
    assert 0 < refused < 12 * 15


def test_workers_settle_below_stripes_limit_together(database, record, clock):
    """WHK-62: four processes that know nothing of each other, each allowed 40 a second; Stripe lets 25 pass in all."""
    sandbox = Sandbox()
    customers = []
    for _ in range(100):
        answer = sandbox.request("POST", "/v1/customers", {}, api_key=API_KEY)
        customers.append(json.loads(answer.data)["id"])
    rows = [record(build_event(subject=build_subscription(customer=one))) for one in customers]
    sandbox.faults.add("rate_limit", path="/v1/", per_second=25, times=None)
    workers = processes(sandbox, 4)
    places = {"database": database, "queue": InlineQueue(), "clock": SYSTEM_CLOCK}
    asked = len(sandbox.log)

    def work(number):
        for row in rows[number::16]:
            left = True
            while left:
                work_due(stripe=workers[number % 4].low_priority(), **places)
                with database.read() as connection:
                    status = connection.scalar(sa.select(events.c.status).where(events.c.id == row))
                left = status == "pending"
                threading.Event().wait(0.05 if left else 0)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    with database.read() as connection:
        assert set(connection.scalars(sa.select(events.c.status))) == {"done"}
        assert events_store.count_dead(connection) == 0
    requests = list(sandbox.log)[asked:]
    refused = sum(one["status"] == 429 for one in requests)
    assert refused > 0, "the limit was met"
    assert refused < len(customers), f"a storm: {refused} refusals for {len(customers)} customers"
