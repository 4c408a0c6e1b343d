"""What webhooks stand on goes away: Valkey full, read-only, emptied, lossy; PostgreSQL killed, or without room.

Real processes, and two of the four workers have clocks that are two hours off. In the end nothing waits, each event is
one row, and the projection is what the sandbox says.
"""

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import redis
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import create_producer
from billing.models import events
from billing.process.settings import Settings
from tests.kills.asking import stopped, thaw
from tests.kills.postgres import KillablePostgres
from tests.kills.steps import FULL
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, World, running_world
from tests.support.valkey import wait_until

MANY = 100 if FULL else 20
OUTAGE_SECONDS = 3  # workers ask for the next message once a second
QUEUE = "onelane:webhooks"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(postgres_of_ours: KillablePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("lossy")
    with running_world(
        folder,
        database=postgres_of_ours.database,
        workers=4,
        sweep_seconds=1,
        KILLS_LEASE_SECONDS="2",
        KILLS_CLOCKS_HOURS="2,-2,0,0",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def many(buyers: Subscribers) -> list[str]:
    return buyers.some(MANY)


REFUSING = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read-only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "without replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


@pytest.mark.parametrize("how", REFUSING if FULL else ["full", "read-only"])
def test_valkey_that_takes_no_writes_costs_time_only(
    world: World, buyers: Subscribers, many: list[str], how: str
) -> None:
    """WHK-85, OPS-50, OPS-51; fault 22: recorded and answered as ever, and worked once Valkey takes writes again."""
    refuse, take = REFUSING[how]
    whose = buyers.new()
    workers, unsent = set(world.worker_pids()), figure(world, "onelane_jobs_not_sent_total")
    world.arm(whose, "fetch", "after", "pause")
    buyers.change(whose)
    world.tripped(whose)
    with redis.Redis.from_url(world.valkey.url) as client:
        client.execute_command(*refuse)
        try:
            event_ids = [buyers.change(one) for one in many[:5]]
            wait_until(lambda: all(buyers.tries(id_) == [200] for id_ in event_ids), "all are answered", END_SECONDS)
            assert recorded(world, event_ids) == len(event_ids)
            assert figure(world, "onelane_jobs_not_sent_total") > unsent
            world.release(whose)  # one worker cannot acknowledge
            time.sleep(OUTAGE_SECONDS)
        finally:
            world.release(whose)
            client.execute_command(*take)
    buyers.settled([whose, *many])
    assert set(world.worker_pids()) == workers, "no worker ended"


@pytest.mark.parametrize("how", ["flushed", "killed"])
def test_queue_that_is_lost_costs_time_only(world: World, buyers: Subscribers, many: list[str], how: str) -> None:
    """WHK-85; faults 19 and 20: FLUSHALL, or a Valkey that comes back without its data, with a full queue of events."""
    with stopped(world.worker_pids()):
        event_ids = [buyers.change(whose) for whose in many]
        wait_until(lambda: recorded(world, event_ids) == len(many), "all are recorded", END_SECONDS)
        if how == "flushed":
            with redis.Redis.from_url(world.valkey.url) as client:
                client.flushall()
        else:
            world.valkey.kill()
            world.valkey.forget()
            world.valkey.start()
    buyers.settled(many)


@pytest.mark.parametrize("copies", [0, 10], ids=["dropped", "doubled"])
def test_messages_that_are_dropped_and_doubled_have_one_effect_each(
    world: World, buyers: Subscribers, many: list[str], copies: int
) -> None:
    """WHK-86; fault 28: every wake-up is lost, and the sweep finds the events; or ten workers are woken at once."""
    before = {whose: buyers.told(whose) for whose in many}
    with stopped(world.worker_pids()), redis.Redis.from_url(world.valkey.url) as client:
        event_ids = [buyers.change(whose) for whose in many]
        wait_until(lambda: recorded(world, event_ids) == len(many), "all are recorded", END_SECONDS)
        client.delete(QUEUE)
        celery = create_producer(Settings(redis_url=world.valkey.url, _env_file=None))
        for _ in range(copies):
            celery.send_task(WorkEvents.kind)
        celery.close()
        assert client.llen(QUEUE) >= copies - 4, "each of the four workers may have been handed one already"
    buyers.settled(many)
    assert {whose: buyers.told(whose) - before[whose] for whose in many} == dict.fromkeys(many, 1)


MOMENTS = [("record", "commit"), ("record", "after"), ("write", "commit")]


@pytest.mark.parametrize(("step", "moment"), MOMENTS if FULL else MOMENTS[:1])
def test_postgres_killed_at_a_commit_gave_no_answer_and_no_effect(
    world: World, buyers: Subscribers, postgres_of_ours: KillablePostgres, step: str, moment: str
) -> None:
    """WHK-80, WHK-83; faults 23 and 24: no 2xx while it is away, and one effect when it is back."""
    whose, other = buyers.some(2)
    before = buyers.told(whose)
    world.arm(whose, step, moment, "pause")
    event_id = buyers.change(whose)
    world.tripped(whose)
    postgres_of_ours.kill()
    try:
        refused = buyers.change(other)
        world.release(whose)
        wait_until(lambda: buyers.tries(refused)[:1] == [503], "the other one is refused", END_SECONDS)
        wait_until(lambda: buyers.tries(event_id) != [], "it is answered", END_SECONDS)
        assert 200 not in buyers.tries(event_id) or (step, moment) != ("record", "commit")
    finally:
        postgres_of_ours.start()
    buyers.resend()
    buyers.settled([whose, other])
    assert buyers.told(whose) == before + 1


def test_backup_that_is_put_back_is_brought_up_to_date_by_reconciling(
    world: World, buyers: Subscribers, postgres_of_ours: KillablePostgres, many: list[str]
) -> None:
    """WHK-42, WHK-44, WHK-48; fault 26: answered 2xx after the backup, so Stripe never sends it again."""
    with postgres_of_ours.backup() as put_back:
        for whose in many:
            buyers.change(whose)
        late = buyers.new()
        page = world.buy("after-the-backup")["session_id"]
        buyers.settled([late, *many])
        put_back()
    world.stripe.control("POST", "/_sandbox/clock", {"advance_seconds": 90})  # deliveries have a minute
    world.run("onelane", "reconcile", "--since", "1h", "--full", "--yes", "--reason", "put back")
    buyers.settled([late, *many], found=True)
    assert world.stripe.sessions()[page]["status"] == "expired", "nobody knows its page any more"
    again = world.buy("after-the-backup")["session_id"]
    pages = [one for one in world.stripe.sessions().values() if one["client_reference_id"] == "after-the-backup"]
    assert {one["id"]: one["status"] for one in pages} == {page: "expired", again: "open"}


def test_full_disk_is_a_503_until_there_is_room_again(
    world: World,
    buyers: Subscribers,
    postgres_of_ours: KillablePostgres,
    many: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    """WHK-87; fault 25: SQLSTATE 53100, from a disk of 16 MB where one can be mounted, else from a trigger."""
    with postgres_of_ours.small_disk("events") as (kind, fill, empty):
        record_property("disk", kind)
        fill()
        event_ids: list[str] = []

        def refused() -> bool:
            event_ids.extend(buyers.change(whose) for whose in many[:5])
            return any(503 in buyers.tries(id_) for id_ in event_ids)

        wait_until(refused, "a delivery finds no room", END_SECONDS)
        refused_ids = [id_ for id_ in event_ids if 503 in buyers.tries(id_)]
        assert recorded(world, refused_ids) == 0
        assert {status for id_ in event_ids for status in buyers.tries(id_)} <= {200, 503}
        empty()
        buyers.resend()
        buyers.settled(many)


def test_worker_whose_clock_is_ahead_holds_nothing_back_when_it_dies(world: World, buyers: Subscribers) -> None:
    """WHK-88; fault 30: its claim and its postponements would last for two hours by everybody else's clock."""
    whose = buyers.new()
    ahead = world.worker_pids(0)
    with stopped([pid for pid in world.worker_pids() if pid not in ahead]):
        world.arm(whose, "claim", "after", "kill")
        buyers.change(whose)
        assert [world.tripped(whose)] == ahead
        wait_until(lambda: world.worker_pids(0) not in ([], ahead), "there is another one", END_SECONDS)
        os.kill(world.worker_pids(0)[0], signal.SIGSTOP)
    try:
        buyers.settled([whose])
    finally:
        thaw(world.worker_pids(0)[0])


# --- how


def figure(world: World, name: str) -> float:
    """The sum of a counter of the web."""
    with urllib.request.urlopen(f"http://127.0.0.1:{world.port}/metrics", timeout=END_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def recorded(world: World, event_ids: list[str]) -> int:
    query = sa.select(sa.func.count()).select_from(events).where(events.c.event_id.in_(event_ids))
    with world.database.read() as connection:
        return int(connection.scalar(query) or 0)
