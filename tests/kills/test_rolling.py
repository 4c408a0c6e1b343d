"""A version with a migration is rolled out and back while everything goes on: nothing is lost, no web is unready."""

import itertools
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.kills.asking import in_background
from tests.kills.postgres import KillablePostgres
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, World, running_world
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(300)
NEWER = "tests.kills.newer"


@pytest.fixture(scope="module")
def world(postgres_of_ours: KillablePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("rolling")
    with running_world(folder, database=postgres_of_ours.database, workers=2, sweep_seconds=1) as running:
        yield running


def test_rolling_forward_and_back_under_load_loses_nothing(world: World, buyers: Subscribers) -> None:
    """LED-69, WHK-89; faults 75 and 89: migrated first, as the compose file does it, and then the processes."""
    many = buyers.some(3)
    with readiness_lost(world) as lost, changing(buyers, many) as event_ids:

        def go_on() -> None:
            some = len(event_ids) + 5
            wait_until(lambda: len(event_ids) >= some, "it goes on", END_SECONDS)

        go_on()
        world.run(NEWER, "onelane", "db", "upgrade")
        go_on()
        for version in ([NEWER], []):
            assert world.workers
            old = [world.replace_web(*version), world.workers]
            world.workers = world.start_workers(2, *version)
            go_on()
            for process in old:
                process.terminate()
            go_on()
            assert [process.wait(60) for process in old] == [0, 0]
            world.run("onelane", "db", "upgrade")
        go_on()
    buyers.settled(many)
    assert lost == []
    assert {id_: tries for id_ in event_ids[-50:] if (tries := buyers.tries(id_)) != [200]} == {}


@contextmanager
def readiness_lost(world: World) -> Iterator[list[str]]:
    """Ask the web for its readiness all the time; what it says when it is not ready."""
    lost: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{world.front.port}/readyz", timeout=10):
                    pass
            except OSError as error:
                lost.append(str(error))

    watching = in_background(watch)
    try:
        yield lost
    finally:
        ended.set()
        watching()


@contextmanager
def changing(buyers: Subscribers, many: list[str]) -> Iterator[list[str]]:
    """Change their subscriptions, one after the other; the events' ids."""
    event_ids: list[str] = []
    ended = threading.Event()

    def change() -> None:
        for whose in itertools.cycle(many):
            if ended.wait(0.05):
                return
            event_ids.append(buyers.change(whose))

    going_on = in_background(change)
    try:
        yield event_ids
    finally:
        ended.set()
        going_on()
