"""Wake-ups of events on a real Valkey: one for each customer, in one round trip, in Celery's own form."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from billing.database import Database
from billing.errors import StripeUnclear
from billing.jobs import ProcessEvent
from billing.queue import CeleryQueue, InlineQueue, create_producer, writes_directly
from billing.redis_client import connect_redis
from billing.settings import Settings
from billing.webhooks.process import process_event
from tests.support.builders import CATALOG, SECRET, MovableClock, build_event, deliver
from tests.support.fakes import FakeStripe
from tests.support.receiving import receive
from tests.support.valkey import Valkey

LIST = "onelane:webhooks"


@pytest.fixture(params=[True, False], ids=["direct", "by Celery"])
def queue(request: pytest.FixtureRequest, valkey: Valkey, client: "redis.Redis") -> Iterator[CeleryQueue]:
    """The real queue, in both of its ways to send many."""
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    yield CeleryQueue(celery, client, direct=request.param)
    celery.close()


def rows_in(client: "redis.Redis") -> list[int]:
    """The row ids of the messages that wait, oldest first."""
    bodies = [json.loads(base64.b64decode(json.loads(each)["body"])) for each in client.lrange(LIST, 0, -1)]
    return [arguments[0] for arguments, _, _ in reversed(bodies)]


def woken_for(*rows: int, about: str = "cus_1") -> list[ProcessEvent]:
    return [ProcessEvent(row, about=about) for row in rows]


def test_message_of_many_is_the_one_that_celery_writes(valkey: Valkey, client: "redis.Redis") -> None:
    """LED-24, LED-4: field by field; only ids of the message itself differ."""
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    queue = CeleryQueue(celery, client, direct=True)
    queue.send_all([ProcessEvent(7)])
    ours = json.loads(client.lpop(LIST))
    queue.taken(ProcessEvent(7))
    queue.send(ProcessEvent(7))
    celerys = json.loads(client.lpop(LIST))
    celery.close()

    for message in (ours, celerys):
        headers, properties = message["headers"], message["properties"]
        ids = {headers.pop("id"), headers.pop("root_id"), properties.pop("correlation_id")}
        assert len(ids) == 1
        for name in ("reply_to", "delivery_tag"):
            assert len(properties.pop(name)) == 36
        message["body"] = json.loads(base64.b64decode(message["body"]))
    assert ours == celerys
    assert list(ours["headers"]) == list(celerys["headers"])


def test_wake_ups_of_a_batch_are_one_request(valkey: Valkey, client: "redis.Redis") -> None:
    """LED-24."""
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    queue = CeleryQueue(celery, client, direct=True)
    queue.send_all(woken_for(1))  # the script is known to the server now
    before = commands(client)
    queue.send_all([ProcessEvent(row, about=f"cus_{row}") for row in range(2, 52)])
    assert commands(client) - before == 2  # it and the INFO that counts
    assert rows_in(client) == list(range(1, 52))
    celery.close()


def commands(client: "redis.Redis") -> int:
    """How many requests the server has had; what a script does within counts as its own."""
    stats: Any = client.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name in ("cmdstat_evalsha", "cmdstat_info"))


def test_events_of_one_customer_are_one_wake_up_until_it_is_taken(client: "redis.Redis", valkey: Valkey) -> None:
    """LED-23: whichever of them it was sent for."""
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    queue = CeleryQueue(celery, client, direct=True)
    queue.send_all(woken_for(1, 2, 3))
    queue.send_all(woken_for(4))
    queue.send_all(woken_for(5, about="cus_2"))
    assert rows_in(client) == [1, 5]
    queue.taken(ProcessEvent(1))  # as a worker says it, who knows the row only
    queue.send_all(woken_for(6, 7))
    assert rows_in(client) == [1, 5, 6]
    celery.close()


def test_wake_ups_for_later_are_one_for_a_customer_and_keep_none_for_now_back(
    queue: CeleryQueue, client: "redis.Redis"
) -> None:
    """LED-23, WHK-76: its mark is gone when it is due, whoever takes the message or loses it."""
    for row in (1, 2, 3):
        queue.send(ProcessEvent(row, about="cus_1:later"), delay_seconds=0.9)
    assert rows_in(client) == [1]
    [mark] = client.keys("onelane:once:*")
    assert 0 < client.pttl(mark) <= 900
    queue.send_all(woken_for(4))
    queue.send(ProcessEvent(2))
    assert rows_in(client) == [1, 4, 2]
    queue.send(ProcessEvent(9, about="cus_2:later"), delay_seconds=0.9)
    assert rows_in(client) == [1, 4, 2, 9]


def test_row_on_its_way_is_not_sent_again_by_the_sweep(queue: CeleryQueue, client: "redis.Redis") -> None:
    """A sweep knows rows, not customers."""
    queue.send_all(woken_for(1))
    queue.send(ProcessEvent(1))
    assert rows_in(client) == [1]
    queue.taken(ProcessEvent(1))
    queue.send(ProcessEvent(1))
    assert rows_in(client) == [1, 1]


def test_wake_up_after_a_failure_is_sent_though_one_for_now_is_on_its_way(
    queue: CeleryQueue, client: "redis.Redis", database: Database, clock: MovableClock, stripe: FakeStripe
) -> None:
    """LED-7: that one comes too early to do anything; and a second failure's is not taken for the first one's."""
    places: dict[str, Any] = {"database": database, "clock": clock}
    body, header = deliver(build_event(), at=clock.now())
    receive(body, header, secrets=[SECRET], max_bytes=1 << 20, queue=(inline := InlineQueue()), **places)
    row = inline.sent[-1].row_id

    def fail(_name: str) -> None:
        queue.send(ProcessEvent(row))  # a sweep's
        raise StripeUnclear("busy")

    stripe.before_arrival = fail
    for number in range(2):
        process_event(row, stripe=stripe, queue=queue, catalog=CATALOG, **places)
        assert rows_in(client) == [row] * (number + 2)
        clock.advance(seconds=1)


def test_marks_end_by_themselves(queue: CeleryQueue, client: "redis.Redis") -> None:
    """W4: a message that the broker lost keeps nobody asleep for longer than 5 s."""
    queue.send_all(woken_for(1, 2))
    for key in client.keys("onelane:once:*"):
        assert 0 < client.pttl(key) <= 5000


def test_nothing_to_send_is_nothing_sent(queue: CeleryQueue, client: "redis.Redis") -> None:
    queue.send_all([])
    assert client.keys("onelane:once:*") == []


@pytest.mark.parametrize("direct", [True, False])
def test_wake_ups_that_cannot_be_sent_are_left_to_the_sweep(direct: bool) -> None:
    """W4: sending never raises."""
    gone = Settings(redis_url="redis://127.0.0.1:1/0", _env_file=None)
    celery = create_producer(gone)
    CeleryQueue(celery, connect_redis(gone.redis_url), direct=direct).send_all(woken_for(1, 2))
    celery.close()


@pytest.mark.parametrize(
    ("redis_url", "broker_url", "direct"),
    [
        ("redis://a:6379/0", None, True),
        ("rediss://a:6379/0", "rediss://a:6379/0", True),
        ("redis://a:6379/0", "redis://b:6379/0", False),
        ("redis://a:6379/0", "amqp://b", False),
        ("unix:///tmp/redis.sock", None, False),
    ],
)
def test_messages_are_written_only_where_the_broker_is_our_redis(
    redis_url: str, broker_url: str | None, direct: bool
) -> None:
    """Elsewhere Celery writes them, whatever the broker is."""
    assert writes_directly(Settings(redis_url=redis_url, celery_broker_url=broker_url, _env_file=None)) is direct
