"""RabbitMQ as the broker: real workers on a real server, and its memory alarm."""

from pathlib import Path

import pytest
import redis

from billing.coordination.jobs import WorkLane
from billing.coordination.queue import CeleryQueue, create_producer, waiting
from billing.process.settings import Settings
from tests.support.rabbitmq import running_rabbitmq
from tests.worker.conftest import Valkey, Worker, wait_until


def test_work_is_done_by_rabbitmq_and_its_memory_alarm_is_noticed(
    valkey: Valkey, client: "redis.Redis", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-136, OPS-10, OPS-135, faults row 109."""
    with running_rabbitmq(tmp_path / "rabbitmq") as server:
        monkeypatch.setenv("CELERY_BROKER_URL", server.url)
        celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
        queue = CeleryQueue(celery, client)
        assert queue.trouble() is None
        for row_id in (1, 2, 3):
            assert queue.send(WorkLane(row_id))
        assert waiting(celery, "checkout") == 3

        worker = Worker(valkey.url, tmp_path / "worker", concurrency=2).begun()
        wait_until(lambda: sorted(worker.noted("done")) == [1, 2, 3], "all of it is worked", seconds=60)

        assert server.control("set_vm_memory_high_watermark", "0.0000001") == 0
        wait_until(lambda: queue.trouble() is not None, "the alarm is noticed", seconds=60)
        assert server.control("set_vm_memory_high_watermark", "0.6") == 0
        wait_until(lambda: queue.trouble() is None, "it takes messages again", seconds=60)
        assert queue.send(WorkLane(4))
        wait_until(lambda: 4 in worker.noted("done"), "and work goes on", seconds=60)
        assert worker.stop() == 0
        celery.close()
