"""The pace of requests to Stripe: who goes next in a process, threads, then workers that know nothing of each other."""

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
from billing.stripe_gateway.budget import Rank
from billing.stripe_gateway.pace import FIRST_CALLS, Lines, Pace
from billing.webhooks import events_store
from sandbox.core import Sandbox
from tests.support.builders import build_event, build_subscription
from tests.support.in_process import API_KEY, InProcess, gateway
from tests.support.working import work_due


def test_lane_that_asked_least_in_this_minute_goes_first():
    """WHK-130; faults row 128: whatever the order in which they came; after a minute it is forgotten."""
    lines, now = Lines(), 1000.0
    for _ in range(FIRST_CALLS):
        lines.join(buyer=True, lane=1)
        assert lines.waiting(now) == [Rank.FIRST]
        lines.call(Rank.FIRST, now)
    often = lines.join(buyer=True, lane=1)
    lines.join(buyer=False)
    assert lines.waiting(now) == [Rank.BUYER, Rank.OTHER]
    waiting = [often, *(lines.join(buyer=True, lane=lane) for lane in (1, 2, None))]
    assert lines.waiting(now) == [Rank.FIRST, Rank.OTHER]
    order = []
    for _ in waiting:
        lines.call(Rank.BUYER, now)
        order.append(next(number for number, one in enumerate(waiting) if one.called and number not in order))
    assert order == [2, 3, 0, 1]
    older, newer = lines.join(buyer=True, lane=1), lines.join(buyer=True, lane=3)
    lines.call(Rank.FIRST, now + 100)
    assert (older.called, newer.called) == (True, False)


def test_calls_in_parallel_are_their_lanes():
    """WHK-130"""
    [stripe] = processes(Sandbox(), 1)
    pace = stripe._client._requestor._get_http_client().pace
    with stripe_pace.for_lane(7):
        stripe.in_parallel(stripe.account, stripe.account, stripe.account)
    stripe.account()
    assert pace._lines._used.count(7, pace._clock()) == 3


def test_threads_share_the_budget_and_buyers_overtake():
    """WHK-61: a clock that only the test moves; who waits is called when there is a turn."""
    time, guard = [0.0], threading.Lock()
    pace = Pace(16, clock=lambda: time[0])
    for _ in range(5):  # what may go at once
        pace.wait()
    order: list[str] = []

    def ask(name, buyer):
        pace.wait(buyer=buyer)
        with guard:
            order.append(name)

    threads = [threading.Thread(target=ask, args=(f"event {n}", False), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    while len(pace._lines._others) < 3:
        threading.Event().wait(0.001)
    threads.append(threading.Thread(target=ask, args=("buyer", True), daemon=True))
    threads[-1].start()
    while not pace._lines._buyers:
        threading.Event().wait(0.001)
    assert order == []
    for moment, gone in ((1 / 12 + 0.001, 1), (1.0, 2), (2.0, 3), (3.0, 4)):  # the others leave what is kept
        time[0] = moment
        while len(order) < gone:
            threading.Event().wait(0.001)
    assert order[0] == "buyer"
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
    assert pace._lines.waiting(0.0) == [], "nobody stands in line any more"


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
    for _ in range(60):
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
