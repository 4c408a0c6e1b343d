"""The web dies with a delivery in hand, a worker with a customer's events: nothing is lost, nothing is done twice.

Real web, Celery workers, Valkey, PostgreSQL, and the sandbox, which delivers until it hears 2xx. The lease is 2 s
and the sweep comes every second; `make soak` has those of production. `KILLS=full` takes every step.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.kills.asking import in_background, thaw
from tests.kills.steps import FULL
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, World, running_world
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

STEPS = [("claim", "after"), ("fetch", "before"), ("fetch", "after"), ("write", "commit"), ("write", "after")]
CELLS = [(*step, what) for what in ("kill", "stop") for step in STEPS]
QUICK = [
    ("claim", "after", "kill"),
    ("write", "commit", "kill"),
    ("write", "after", "kill"),
    ("fetch", "after", "stop"),
]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hooks")
    with (
        postgres.fresh() as database,
        running_world(
            folder,
            database=database,
            workers=4,
            sweep_seconds=1,
            KILLS_LEASE_SECONDS="2",
            KILLS_VISIBILITY_SECONDS="5",
        ) as running,
    ):
        yield running


@pytest.mark.parametrize(("moment", "first"), [("commit", "recorded"), ("after", "duplicate")])
def test_web_killed_around_its_commit_gave_no_answer_and_is_asked_again(
    world: World, buyers: Subscribers, moment: str, first: str
) -> None:
    """WHK-80, WHK-81; faults 6 and 7: what comes again is recorded where nothing was committed, else a duplicate."""
    whose = buyers.new()
    before = buyers.told(whose)
    world.arm(whose, "record", moment, "kill")
    event_id = buyers.change(whose)
    world.tripped(whose)
    world.restart_web()
    buyers.settled([whose])
    assert buyers.tries(event_id)[0] is None, "killed, and yet it answered"
    assert buyers.tries(event_id)[-1] == 200
    answered = [line for line in web_said(world, event_id) if line in ("event.recorded", "event.duplicate")]
    assert answered == [f"event.{first}"]
    assert buyers.told(whose) == before + 1


def test_web_killed_after_its_answer_and_before_anybody_was_woken_is_found_by_the_sweep(
    world: World, buyers: Subscribers
) -> None:
    """WHK-82; fault 8: a batch is answered, and whoever committed it has its wake-ups still before it."""
    holds, *batch = (buyers.new() for _ in range(3))
    world.arm(holds, "record", "commit", "pause")
    buyers.change(holds)
    world.tripped(holds)
    event_ids = []
    for whose in batch:  # they gather behind the one that is held
        world.arm(whose, "line", "after", "note")
        event_ids.append(buyers.change(whose))
        world.tripped(whose)
    world.arm(batch[0], "wake", "before", "pause")
    world.release(holds)
    web = world.tripped(batch[0])
    answered = [[200]] * len(batch)
    wait_until(lambda: list(map(buyers.tries, event_ids)) == answered, "they are answered", END_SECONDS)
    os.kill(web, signal.SIGKILL)
    world.restart_web()
    buyers.settled([holds, *batch])
    assert list(map(buyers.tries, event_ids)) == answered, "they are never sent again"


@pytest.mark.parametrize("cell", CELLS if FULL else QUICK, ids=" ".join)
def test_worker_that_dies_or_freezes_with_events_in_hand_is_followed_by_one_that_finishes(
    world: World, buyers: Subscribers, cell: tuple[str, str, str], record_property: Callable[[str, object], None]
) -> None:
    """WHK-83: the lease ends, another worker fetches anew, and the one that wakes late changes nothing."""
    step, moment, what = cell
    whose = buyers.new()
    before = buyers.told(whose)
    world.arm(whose, step, moment, what)
    begun = time.monotonic()
    buyers.change(whose)
    pid = world.tripped(whose)
    try:
        buyers.settled([whose])
        record_property("seconds", round(time.monotonic() - begun, 1))
        if (step, moment) != ("write", "commit"):  # whose change is overtaken
            assert buyers.told(whose) == before + 1
    finally:
        if what == "stop":
            thaw(pid)
    if what == "stop":
        buyers.change(whose)
        buyers.settled([whose])
        assert buyers.told(whose) == before + 2


def test_deployment_under_load_refuses_and_loses_nothing(world: World, buyers: Subscribers) -> None:
    """WHK-89; fault 75: a second web and more workers start, then the first ones get SIGTERM, while all goes on."""
    many, ended = buyers.some(5), threading.Event()
    event_ids: list[str] = []
    bought: dict[str, str] = {}

    def change() -> None:
        for whose in itertools.cycle(many):
            if ended.is_set():
                return
            event_ids.append(buyers.change(whose))

    def buy() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            bought[f"deployed-{number}"] = world.buy(f"deployed-{number}")["url"]

    going_on = [in_background(change), in_background(buy)]
    try:
        more(event_ids, bought)
        assert world.workers
        old = [world.replace_web(), world.workers]
        world.start_workers(2)
        for process in old:
            process.terminate()
        more(event_ids, bought)
        assert [process.wait(40) for process in old] == [0, 0]
        more(event_ids, bought)
    finally:
        ended.set()
        for done in going_on:
            done()  # or raises what it met
    buyers.settled(many)
    assert {id_: tries for id_ in event_ids[-50:] if (tries := buyers.tries(id_)) != [200]} == {}
    for user_id, url in bought.items():
        world.at_rest(user_id, url, creates=1)


def more(event_ids: list[str], bought: dict[str, str]) -> None:
    """Wait for some more events and a checkout."""
    events, checkouts = len(event_ids) + 10, len(bought) + 1
    wait_until(lambda: len(event_ids) >= events and len(bought) >= checkouts, "it goes on", END_SECONDS)


def web_said(world: World, event_id: str) -> list[str]:
    """The names of the web's log lines about an event."""
    lines = (world.folder / "web.log").read_text("utf-8").splitlines()
    return [line.partition('"event": "')[2].partition('"')[0] for line in lines if event_id in line]


def test_event_whose_message_is_handed_out_again_while_it_is_worked_has_one_effect(
    world: World, buyers: Subscribers
) -> None:
    """WHK-84; fault 29: longer than the visibility timeout of 5 s, so that it runs a second time beside itself."""
    whose = buyers.new()
    before, sweep_seconds = buyers.told(whose), world.sweep_seconds
    world.sweep_seconds = 3600  # so that only the broker may give it out again
    try:
        world.arm(whose, "fetch", "after", "pause")
        buyers.change(whose)
        first = world.tripped(whose)
        world.arm(whose, "write", "after", "note")
        second = world.tripped(whose)
        assert second != first
    finally:
        world.release(whose)
        world.sweep_seconds = sweep_seconds
    wait_until(lambda: worker_said(world, first, "customer.synced"), "the first one ended, too", END_SECONDS)
    buyers.settled([whose])
    assert buyers.told(whose) == before + 1


def worker_said(world: World, pid: int, event: str) -> bool:
    return f'"{event}"' in (world.folder / "logs" / f"{pid}.log").read_text("utf-8")
