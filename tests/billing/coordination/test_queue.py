"""Wake-ups on a real Valkey: how many of them wait at once."""

import pytest
import redis

from billing.coordination.jobs import WorkEvents, WorkLane
from billing.coordination.queue import CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.process.settings import Settings

LIST = "onelane:webhooks"


def test_one_wake_up_for_events_waits_until_it_is_taken(queue: CeleryQueue, client: "redis.Redis") -> None:
    """LED-23."""
    for _ in range(3):
        assert queue.send(WorkEvents())
    assert client.llen(LIST) == 1
    queue.taken(WorkEvents())
    queue.send(WorkEvents())
    assert client.llen(LIST) == 2


def test_wake_ups_for_later_are_one_for_each_moment_and_keep_none_for_now_back(
    queue: CeleryQueue, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-23, WHK-76: the mark is gone when it is due, whoever takes the message or loses it."""
    monkeypatch.setattr("billing.coordination.queue.time.time", lambda: 1000.0)
    for delay in (0.91, 0.93, 0.98):
        queue.send(WorkEvents(), delay_seconds=delay)
    assert client.llen(LIST) == 1
    [mark] = client.keys("onelane:once:*")
    assert 0 < client.pttl(mark) <= 910
    queue.send(WorkEvents())
    queue.send(WorkEvents(), delay_seconds=0.5)
    assert client.llen(LIST) == 3


@pytest.mark.parametrize("job", [WorkEvents(), WorkLane(1)])
def test_mark_ends_by_itself(queue: CeleryQueue, client: "redis.Redis", job: WorkEvents | WorkLane) -> None:
    """W4: a message that the broker lost keeps nobody asleep for longer than 5 s."""
    queue.send(job)
    [mark] = client.keys("onelane:once:*")
    assert 0 < client.pttl(mark) <= 5000


def test_wake_up_that_cannot_be_sent_is_left_to_the_sweep() -> None:
    """W4: sending never raises."""
    gone = Settings(redis_url="redis://127.0.0.1:1/0", _env_file=None)
    celery = create_producer(gone)
    assert not CeleryQueue(celery, connect_redis(gone.redis_url)).send(WorkEvents())
    celery.close()
