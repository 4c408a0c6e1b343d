"""The queue on a real Valkey."""

from collections.abc import Iterator

import pytest
import redis

from billing.coordination.queue import CeleryQueue, create_producer
from billing.process.settings import Settings
from tests.support.valkey import Valkey


@pytest.fixture
def queue(valkey: Valkey, client: "redis.Redis") -> Iterator[CeleryQueue]:
    """The real queue."""
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    yield CeleryQueue(celery, client)
    celery.close()
