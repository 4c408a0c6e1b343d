"""One budget for several processes, by a real Valkey; and each one's share of it while Valkey is away."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.errors import LedgerUnavailable
from billing.models import processes
from billing.operators.presence import Heartbeat, count_workers
from billing.stripe_gateway import shared_budget
from billing.stripe_gateway.budget import Rank
from billing.stripe_gateway.pace import Pace
from billing.stripe_gateway.shared_budget import SharedBudget
from tests.support.valkey import Valkey

KEY = "onelane:stripe-budget"


@pytest.fixture
def make_budget(client: "redis.Redis") -> Callable[..., SharedBudget]:
    """The budget as one more process has it, twenty a second."""

    def make(**instead: Any) -> SharedBudget:
        return SharedBudget(20, **{"client": client, "key": KEY, "count_workers": lambda: 4, **instead})

    return make


def test_processes_share_what_may_go_at_once(make_budget: Callable[..., SharedBudget]) -> None:
    """WHK-63: whoever of them asks."""
    budgets = [make_budget() for _ in range(4)]
    turns = [budgets[number % 4].take([Rank.FIRST]) for number in range(40)]
    assert 6 <= sum(turn.rank is Rank.FIRST for turn in turns) <= 20


def test_four_processes_stay_within_the_budget_together(valkey: Valkey, client: "redis.Redis") -> None:
    """WHK-63: each with threads and connections of its own; with one budget each it would be four times as many."""
    clients = [connect_redis(valkey.url) for _ in range(4)]
    paces = [Pace(SharedBudget(40, client=one, key=KEY, count_workers=lambda: 4)) for one in clients]
    began, gone = time.monotonic(), list[float]()

    def ask(number: int) -> None:
        while time.monotonic() < began + 3:
            paces[number % 4].wait(buyer=number < 8)
            gone.append(time.monotonic())

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    for one in clients:
        one.close()
    lasted = gone[-1] - began
    assert len(gone) <= 40 * lasted + 1
    assert len(gone) >= 0.75 * 40 * lasted / 2, "and it is used"


def test_turn_costs_one_round_trip_while_nobody_else_asks(
    make_budget: Callable[..., SharedBudget], client: "redis.Redis"
) -> None:
    """WHK-63: a buyer waits for seven of them. Who has seen nothing yet, or another's turn, learns in one more."""

    def trips(budget: SharedBudget) -> int:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert budget.take([Rank.FIRST]).rank is Rank.FIRST
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"] - before)

    one, other = make_budget(), make_budget()
    one.take([Rank.FIRST])
    assert [trips(each) for each in (one, other, one, one)] == [1, 2, 2, 1]


@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_each_counts_by_redis_time_whatever_its_own_clock_says(client: "redis.Redis", seconds: int) -> None:
    """WHK-63: on a machine that was started a day earlier, or later; one call in ten seconds."""
    clocks = (time.monotonic, lambda: time.monotonic() + seconds)
    one, other = (SharedBudget(0.1, client=client, key=KEY, count_workers=lambda: 1, clock=clock) for clock in clocks)
    assert [each.take([Rank.FIRST]).rank for each in (one, other, one)] == [Rank.FIRST, None, None]


def test_refusal_of_one_slows_all_of_them_down(make_budget: Callable[..., SharedBudget]) -> None:
    """WHK-62, WHK-63"""
    one, other = make_budget(), make_budget()
    one.refused(pause=0.9)
    turn = other.take([Rank.FIRST])
    assert (turn.rank, turn.seconds > 0.5) == (None, True)


def test_without_redis_each_has_its_share_and_begins_with_a_second_of_nothing(
    valkey: Valkey, make_budget: Callable[..., SharedBudget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """WHK-64: five a second of twenty, for one of four."""
    monkeypatch.setattr(shared_budget, "AGAIN_SECONDS", 1e9)
    now, asked = 1000.0, list[float]()
    budget = make_budget(clock=lambda: now)
    assert budget.take([Rank.FIRST]).rank is Rank.FIRST
    valkey.kill()
    while now < 1011:
        if budget.take([Rank.FIRST]).rank is not None:
            asked.append(now)
        now += 0.01
    valkey.start()
    assert asked[0] >= 1001
    assert 0.7 * 5 * 10 <= len(asked) <= 5 * 10
    assert max(sum(one <= other < one + 1 for other in asked) for one in asked) <= 5


def test_share_is_by_the_workers_that_say_that_they_are_there(database: Database) -> None:
    """WHK-64: by their heartbeats; a web and a beat ask Stripe nothing, and a worker that is gone neither."""
    for kind in ("worker", "worker", "worker", "web", "beat"):
        Heartbeat(database, kind=kind).beat()
    with database.write() as connection:
        one = sa.select(sa.func.min(processes.c.id)).where(processes.c.kind == "worker").scalar_subquery()
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(sa.update(processes).where(processes.c.id == one).values(seen_at=long_ago))
    away = connect_redis("redis://127.0.0.1:1/0")
    budget = SharedBudget(20, client=away, key=KEY, count_workers=partial(count_workers, database))
    budget.take([Rank.FIRST])
    assert budget._own.per_second == 10


def test_process_that_never_shared_begins_at_once(make_budget: Callable[..., SharedBudget]) -> None:
    """WHK-64: a command on a machine without Redis."""
    budget = make_budget(client=connect_redis("redis://127.0.0.1:1/0"), count_workers=lambda: 0)
    assert [budget.take([Rank.FIRST]).rank for _ in range(6)] == [Rank.FIRST] * 6
    budget.refused(pause=0.9)
    assert budget.take([Rank.FIRST]).rank is None


def test_number_of_workers_that_nobody_can_say_is_as_it_was(client: "redis.Redis") -> None:
    """WHK-64: neither Redis nor the ledger answers."""
    now, known = 1000.0, [4]

    def count() -> int:
        if not known:
            raise LedgerUnavailable("away")
        return known.pop()

    away = connect_redis("redis://127.0.0.1:1/0")
    budget = SharedBudget(20, client=away, key=KEY, count_workers=count, clock=lambda: now)
    budget.take([Rank.FIRST])
    now += shared_budget.AGAIN_SECONDS
    budget.take([Rank.FIRST])
    assert budget._own.per_second == 5


def test_redis_that_comes_back_is_shared_again(
    valkey: Valkey, client: "redis.Redis", make_budget: Callable[..., SharedBudget]
) -> None:
    """WHK-63, WHK-64"""
    now = 1000.0
    budget = make_budget(clock=lambda: now)
    assert budget.take([Rank.FIRST]).rank is Rank.FIRST
    valkey.kill()
    assert budget.take([Rank.FIRST]).rank is None
    valkey.start()
    now += shared_budget.AGAIN_SECONDS
    assert budget.take([Rank.FIRST]).rank is Rank.FIRST
    assert client.exists(KEY)


@pytest.mark.parametrize("written", [b"", b"nonsense", b'{"other": 1}', b"[]", b'{"marks": 7}'])
def test_what_another_version_wrote_is_a_whole_budget(
    make_budget: Callable[..., SharedBudget], client: "redis.Redis", written: bytes
) -> None:
    """WHK-63: for a second at the most there may be more than the budget; nothing stops."""
    client.set(KEY, written)
    assert make_budget().take([Rank.FIRST]).rank is Rank.FIRST
    assert "tokens" in json.loads(client.get(KEY) or b"")  # type: ignore[arg-type]
