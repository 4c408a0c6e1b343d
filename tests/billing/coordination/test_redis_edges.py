"""Lock, wake-ups and queue on a real Valkey: what they do, and that losing it costs time and nothing else."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.limits.rates import RateLimit, shared_storage
from billing.coordination.jobs import WorkEvents, WorkLane
from billing.coordination.locks import RedisLocks
from billing.coordination.queue import NOT_REACHABLE, CeleryQueue
from billing.coordination.redis_client import POOL_SIZE, connect_redis
from billing.coordination.wakeups import KEPT, UNAVAILABLE_SECONDS, LocalWakeups, RedisWakeups, wait_while
from billing.process.settings import Settings
from billing.services import build_services
from tests.support.valkey import Valkey, wait_until

FOR_EVER = 600  # longer than a test may take


def key_lifetime(client: "redis.Redis", key: str) -> float:
    """Seconds that a key has left."""
    return float(client.pttl(key)) / 1000


def test_second_worker_does_not_get_the_lock_and_does_not_wait_for_it(client: "redis.Redis") -> None:
    """LAN-19."""
    locks = RedisLocks(client, lifetime_seconds=30)
    with locks.hold("lane:1") as mine:
        assert mine is not None
        with locks.hold("lane:1") as theirs:  # to wait for ours would take until the test's timeout
            assert theirs is None
        with locks.hold("lane:2") as other:
            assert other is not None
    with locks.hold("lane:1") as again:
        assert again is not None


def test_lock_that_is_held_longer_than_its_lifetime_is_renewed(client: "redis.Redis") -> None:
    """The heartbeat, at a third of the lifetime."""
    with RedisLocks(client, lifetime_seconds=0.3).hold("lane:1") as lease:
        assert lease is not None
        lowest = min(key_lifetime(client, "onelane:lock:lane:1") for _ in _for(0.7))
        assert lowest > 0
        assert not lease.lapsed


def test_lock_of_a_killed_worker_ends_by_itself(client: "redis.Redis") -> None:
    """Nobody renews it."""
    client.set("onelane:lock:lane:1", "a worker that is gone", px=200)
    locks = RedisLocks(client, lifetime_seconds=5)

    def free() -> bool:
        with locks.hold("lane:1") as lease:
            return lease is not None

    assert not free()
    wait_until(free, "the lock lapses")


def test_worker_that_lost_its_lock_hears_of_it_and_leaves_its_successor_alone(client: "redis.Redis") -> None:
    """Release by token only: an expired owner never deletes its successor's lock."""
    with RedisLocks(client, lifetime_seconds=0.3).hold("lane:1") as lease:
        assert lease is not None
        client.set("onelane:lock:lane:1", "the successor's token", px=60_000)
        wait_until(lambda: lease.lapsed, "the heartbeat notices")
    assert client.get("onelane:lock:lane:1") == b"the successor's token"


def test_without_redis_the_lock_lets_everybody_go_on(tmp_path: Path) -> None:
    """LAN-1: the lane row decides."""
    gone = connect_redis("redis://127.0.0.1:1/0")
    with RedisLocks(gone, lifetime_seconds=5).hold("lane:1") as lease:
        assert lease is not None


def test_ring_wakes_the_waiter_whoever_comes_first(client: "redis.Redis") -> None:
    """Ringing first and waiting second works too."""
    wakeups = RedisWakeups(client)
    wakeups.wake(["chk_1"])
    wakeups.wait("chk_1", FOR_EVER)
    assert wakeups.available(), "woken, and not given up"
    waiting = threading.Thread(target=wakeups.wait, args=("chk_2", FOR_EVER), daemon=True)
    waiting.start()
    wakeups.wake(["chk_2"])
    waiting.join(60)
    assert not waiting.is_alive()
    assert wakeups.available()
    wakeups.wait("chk_3", 0.2)  # nobody rings, and it ends


def test_ring_of_a_checkout_nobody_waits_for_does_not_stay(client: "redis.Redis") -> None:
    """Nothing piles up in Redis."""
    wakeups = RedisWakeups(client)
    wakeups.wake([f"chk_{number}" for number in range(2 * KEPT)])
    assert 0 < key_lifetime(client, "onelane:wakeups") <= 60
    assert client.xlen("onelane:wakeups") < 1.2 * KEPT


def test_all_waiters_of_a_process_take_one_connection(valkey: Valkey, client: "redis.Redis") -> None:
    """OPS-123, fault 112."""
    mine, ids = connect_redis(valkey.url), [f"chk_{number}" for number in range(40)]
    wakeups, before = RedisWakeups(mine), len(client.client_list())
    waiting = [threading.Thread(target=wakeups.wait, args=(id_, FOR_EVER), daemon=True) for id_ in ids]
    for one in waiting:
        one.start()
    wait_until(lambda: len(client.client_list()) == before + 1, "one of them reads for all")
    RedisWakeups(client).wake(ids)
    for one in waiting:
        one.join(60)
    assert not any(one.is_alive() for one in waiting)
    assert len(client.client_list()) == before + 1
    mine.close()


def test_connections_of_a_process_have_a_bound(valkey: Valkey, client: "redis.Redis") -> None:
    """OPS-123, fault 112: who finds none free hears that Redis does not answer."""
    before = len(client.client_list())
    mine = connect_redis(f"{valkey.url}?socket_timeout=60")
    taken = [threading.Thread(target=mine.blpop, args=(["nobody"], 50), daemon=True) for _ in range(POOL_SIZE)]
    for one in taken:
        one.start()
    wait_until(lambda: len(client.client_list()) == before + POOL_SIZE, "all are in use")
    with pytest.raises(redis.ConnectionError):
        mine.ping()
    assert len(client.client_list()) == before + POOL_SIZE
    client.rpush("nobody", *range(POOL_SIZE))
    for one in taken:
        one.join(60)
    assert mine.ping()
    mine.close()


def is_none(look: object) -> bool:
    """Whether a look found nothing yet."""
    return look is None


def test_answer_is_found_when_the_ring_was_lost() -> None:
    """W4: the row is looked at again and again; Redis is only faster."""
    gone = RedisWakeups(connect_redis("redis://127.0.0.1:1/0"))
    looks = iter([None, None, "answered"])
    assert wait_while(is_none, lambda: next(looks), "chk_1", wakeups=gone, seconds=5) == "answered"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"seconds": FOR_EVER, "is_new": True}, ["wait", "read"]),  # nobody can have answered it before
        ({"seconds": 0, "is_new": True}, ["read"]),
        ({"seconds": FOR_EVER}, ["read"]),
    ],
)
def test_what_was_just_recorded_is_read_at_its_wake_up(asked: dict[str, Any], steps: list[str]) -> None:
    """API-20: a look costs a transaction. Who does not wait has one all the same."""
    done: list[str] = []

    class Noted(LocalWakeups):
        def wait(self, id_: str, seconds: float) -> None:
            done.append("wait")
            super().wait(id_, seconds)

    def read() -> str:
        done.append("read")
        return "answered"

    wakeups = Noted()
    wakeups.wake(["chk_1"])
    assert wait_while(is_none, read, "chk_1", wakeups=wakeups, **asked) == "answered"
    assert done == steps


def test_wait_ends_on_time_without_an_answer() -> None:
    """A buyer is never kept longer than they said."""
    gone = RedisWakeups(connect_redis("redis://127.0.0.1:1/0"))
    assert wait_while(is_none, lambda: None, "chk_1", wakeups=gone, seconds=0.5) is None


def test_bell_that_hangs_is_asked_once_and_heard_again_later(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-29: it is noticed within a second, by the one that reads for all; meanwhile nobody is late."""
    wakeups = RedisWakeups(connect_redis(valkey.url))
    wakeups.wake(["chk_0"])
    assert wakeups.available()
    valkey.signal(signal.SIGSTOP)
    try:
        wakeups.wait("chk_1", 0.1)
        wakeups.wait("chk_2", FOR_EVER)  # until that
        assert not wakeups.available()
        assert wait_while(is_none, lambda: None, "chk_2", wakeups=wakeups, seconds=0.3) is None
    finally:
        valkey.signal(signal.SIGCONT)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + UNAVAILABLE_SECONDS)
    assert wakeups.available()


def test_storm_on_one_lane_is_one_message(queue: CeleryQueue, client: "redis.Redis") -> None:
    """One job for a lane is enough; after a worker has begun with it, the next change sends anew."""
    for _ in range(50):
        queue.send(WorkLane(1))
    queue.send(WorkLane(2))
    queue.send(WorkEvents())
    assert client.llen("onelane:checkout") == 2
    assert client.llen("onelane:webhooks") == 1
    queue.taken(WorkLane(1))
    queue.send(WorkLane(1))
    assert client.llen("onelane:checkout") == 3


def test_message_carries_its_row_id_and_nothing_else(queue: CeleryQueue, client: "redis.Redis") -> None:
    """What a job says can be read by anybody who reads the broker."""
    queue.send(WorkLane(7))
    (message,) = client.lrange("onelane:checkout", 0, -1)
    assert b'"argsrepr": "[7]"' in message
    assert b'"kwargsrepr": "{}"' in message


def test_job_that_cannot_be_sent_is_left_to_the_sweep(
    valkey: Valkey, queue: CeleryQueue, client: "redis.Redis"
) -> None:
    """W4: sending never raises and never takes long."""
    told = [queue.send(WorkLane(1))]
    valkey.kill()
    try:
        told.append(queue.send(WorkLane(2)))
        assert told == [True, False]
        queue.taken(WorkLane(2))
        assert queue.trouble() == NOT_REACHABLE
    finally:
        valkey.start()
    wait_until(lambda: queue.trouble() is None, "the broker is back")
    queue.send(WorkLane(3))
    assert client.llen("onelane:checkout") >= 1


def _for(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
        yield


def test_every_key_begins_with_the_prefix(valkey: Valkey, client: "redis.Redis") -> None:
    """OPS-122: another installation on the server has another one."""
    settings = Settings(
        redis_url=valkey.url, redis_key_prefix="shop-two:", _env_file=None, catalog=Path("catalog.toml")
    )
    services = build_services(settings)
    assert services.queue.send(WorkLane(1))
    services.wakeups.wake(["chk_1"])
    rate = RateLimit("reads", "2/minute", storage=shared_storage(services.redis, settings.redis_key_prefix))
    rate.take("user_1")
    with services.locks.hold("lane:1"):
        keys = sorted(key.decode() for key in client.keys("*"))
    services.database.close()
    assert len(keys) >= 5, keys
    assert [key for key in keys if not key.startswith("shop-two:")] == []
