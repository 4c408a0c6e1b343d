"""The database's host dies without a word, or another server takes its place: nothing is restarted, nothing is lost.

Everybody reaches it by way of a proxy, as by a virtual address. The standby is a real one, with streaming replication.
"""

import itertools
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.kills.asking import Answer
from tests.kills.postgres import KillablePostgres
from tests.kills.proxy import Proxy
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, SIGNING_SECRET, World, running_world
from tests.support.builders import build_event, deliver
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def address(postgres_of_ours: KillablePostgres) -> Iterator[Proxy]:
    """The database's address."""
    proxy = Proxy(postgres_of_ours.socket)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def world(
    postgres_of_ours: KillablePostgres, address: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hosts")
    url = postgres_of_ours.database.url.set(host="127.0.0.1", port=address.port).difference_update_query(["host"])
    with running_world(
        folder,
        database=postgres_of_ours.database,
        workers=2,
        sweep_seconds=1,
        DATABASE_URL=url.render_as_string(hide_password=False),
    ) as running:
        yield running


def test_host_that_dies_without_a_word_costs_seconds(world: World, buyers: Subscribers, address: Proxy) -> None:
    """LED-60, LED-61, API-51; fault 81: everybody is answered, and everything given up, while the host says nothing.

    How soon is a matter of the code's own times (`tests/billing/database/test_ends.py`).
    """
    many, processes = buyers.some(3), whoever_runs(world)
    address.silence()
    refused(world, until=given_up(world))
    for whose in many:
        buyers.change(whose)
    address.speak()
    taken_again(world)
    buyers.resend()
    buyers.settled(many)
    assert whoever_runs(world) == processes, "nothing was restarted"


def test_switchover_is_followed(
    world: World, buyers: Subscribers, address: Proxy, postgres_of_ours: KillablePostgres
) -> None:
    """LED-62, LED-64; fault 82: the address leads to the standby before that is the primary, and reads work there."""
    many, processes = buyers.some(3), whoever_runs(world)
    with postgres_of_ours.standby() as (socket, promote):
        address.silence()  # also the old connections lead nowhere any more
        postgres_of_ours.kill()
        address.speak(socket)
        refused(world, until=given_up(world))
        promote()
        taken_again(world)
        event_ids = [buyers.change(whose) for whose in many]
        buyers.resend()
        wait_until(lambda: all(200 in buyers.tries(id_) for id_ in event_ids), "all are taken", END_SECONDS)
        assert whoever_runs(world) == processes, "nothing was restarted"
        figures = urllib.request.urlopen(f"http://127.0.0.1:{world.port}/metrics", timeout=10).read().decode()
        assert "onelane_ledger_up 1.0" in figures


def whoever_runs(world: World) -> set[int]:
    assert world.web.poll() is None
    return {world.web.pid, *world.worker_pids()}


def deliver_one(world: World) -> Answer:
    """A new event's answer."""
    body, signature = deliver(build_event(), secret=SIGNING_SECRET, at=datetime.now(UTC))
    return world.event(body, signature)


def refused(world: World, until: Callable[[], bool]) -> None:
    """Each delivery and each look at readiness is answered with 503, and that before this returns."""
    rounds = itertools.count(1)

    def another() -> bool:
        assert deliver_one(world).status == 503
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{world.port}/readyz", timeout=END_SECONDS)
        caught.value.close()
        assert caught.value.code == 503
        return next(rounds) >= 3 and until()

    wait_until(another, "what was begun with the old server has ended", 2 * END_SECONDS)


def given_up(world: World) -> Callable[[], bool]:
    """Whether since now each worker has given up something for want of the ledger."""

    def counts() -> dict[str, int]:
        return {
            log.name: log.read_text("utf-8").count("ledger_unavailable") for log in (world.folder / "logs").iterdir()
        }

    before = counts()
    return lambda: all(count > before[name] for name, count in counts().items())


def taken_again(world: World) -> None:
    wait_until(lambda: deliver_one(world).status == 200, "deliveries are taken", END_SECONDS)
