"""Redis with Sentinel: the primary goes away under load, the replica takes its place, and nothing is restarted or lost.

Debian's servers: a primary, a replica and three Sentinels, which REDIS_URL names, and so the queue's address does.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from billing.models import CheckoutStatus, checkouts
from tests.kills.asking import answers, in_background
from tests.kills.postgres import KillablePostgres
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, World, running_world
from tests.support.redis_server import Guarded, Server, running
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(300)
AT_ONCE = 4
REST_SECONDS = 0.3  # of a buyer before the next one: load, and not a flood of sessions


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    servers = Guarded(tmp_path_factory.mktemp("sentinel"))
    with running(*servers.servers, *servers.sentinels):
        yield servers


@pytest.fixture(scope="module")
def world(
    postgres_of_ours: KillablePostgres, guarded: Guarded, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder, database = tmp_path_factory.mktemp("failover"), postgres_of_ours.database
    with running_world(folder, database=database, workers=4, sweep_seconds=1, REDIS_URL=guarded.url) as made:
        yield made


@contextmanager
def dead(server: Server) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@pytest.mark.parametrize("away", [dead, Server.frozen], ids=["killed", "frozen"])
def test_failover_under_load_costs_time_only(
    world: World, buyers: Subscribers, guarded: Guarded, away: Callable[[Server], "Iterator[None]"]
) -> None:
    """OPS-124, LAN-1; fault 111: checkouts and deliveries go on, by the new primary's queue."""
    customers, processes = buyers.some(3), {world.web.pid, *world.worker_pids()}
    with Load(world) as load:
        load.goes_on()
        old = guarded.primary
        with away(old):
            for whose in customers:
                buyers.change(whose)
            wait_until(lambda: guarded.primary is not old, "the Sentinels name the other server", END_SECONDS)
            load.goes_on()
        wait_until(lambda: guarded.is_whole(guarded.primary), "the old primary follows the new one", END_SECONDS)
        assert guarded.primary is not old
        wait_until(lambda: waiters_at(guarded.primary) == 4, "all workers wait at the new primary", END_SECONDS)
        load.goes_on()

    assert {world.web.pid, *world.worker_pids()} == processes, "nothing was restarted"
    wait_until(lambda: answers(f"http://127.0.0.1:{world.port}/readyz"), "the web is ready", END_SECONDS)
    each_has_one_session(world, load.served)
    buyers.resend()
    buyers.settled(customers)


class Load:
    """Buyers who check out, each once, as long as the block lasts; `served` has their payment pages."""

    def __init__(self, world: World) -> None:
        self._world, self._over = world, threading.Event()
        self.served: dict[str, str] = {}

    def __enter__(self) -> "Load":
        mark = time.monotonic_ns()
        self._ended = [in_background(lambda name=f"{mark}-{one}": self._buy(name)) for one in range(AT_ONCE)]  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for ended in self._ended:
            ended()

    def goes_on(self) -> None:
        """Wait until some more are served."""
        before = len(self.served)
        wait_until(lambda: len(self.served) >= before + 2 * AT_ONCE, "more checkouts are served", END_SECONDS)

    def _buy(self, name: str) -> None:
        turn = 0
        while not self._over.wait(REST_SECONDS):
            turn += 1
            user_id = f"load-{name}-{turn}"
            self.served[user_id] = self._world.buy(user_id)["url"]


def waiters_at(server: Server) -> int:
    """How many connections wait there for a message."""
    with server.client() as client:
        return sum(one["cmd"] == "brpop" for one in client.client_list())


def each_has_one_session(world: World, served: dict[str, str]) -> None:
    """Nobody has a second session, and nothing is pending."""
    made: dict[str, list[tuple[str, str]]] = {}
    for one in world.stripe.sessions().values():
        made.setdefault(one["client_reference_id"], []).append((one["status"], one["url"]))
    assert {user_id: made[user_id] for user_id in served} == {
        user_id: [("open", url)] for user_id, url in served.items()
    }
    with world.database.read() as connection:
        waiting = sa.select(checkouts.c.id).where(checkouts.c.status == CheckoutStatus.PENDING)
        assert list(connection.scalars(waiting)) == []
