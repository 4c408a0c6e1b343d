"""What an ACL refuses is called a refusal: by doctor, at the start and by readiness, with users of a real Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.coordination.jobs import WorkLane
from billing.coordination.queue import NOT_REACHABLE, REFUSED, CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.doctor.redis import examine_redis, require_redis
from billing.doctor.servers import examine_broker
from billing.errors import ConfigurationError, TransientError
from billing.process.settings import Settings
from tests.support.redis_server import PASSWORD, Server, running
from tests.support.valkey import wait_until
from tests.worker.conftest import Worker

USERS = {
    "default": "off",
    "whole": f"on >{PASSWORD} ~onelane:* +@all",
    "narrow": f"on >{PASSWORD} ~onelane:* +@all -@dangerous +info",  # as docs/redis.md has it
    "reader": f"on >{PASSWORD} ~onelane:* +@read",
    "elsewhere": f"on >{PASSWORD} ~other:* +@all",
    "silent": f"on >{PASSWORD} ~onelane:* +@all -@dangerous",  # no INFO
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    users = [f"user {name} {rules}" for name, rules in USERS.items()]
    made = Server("redis-server", tmp_path_factory.mktemp("acl") / "server", "appendonly yes", *users)
    with running(made):
        yield made


LOGINS = {
    # the login, and what is said of it
    "NOAUTH: none": ("", "refuses the user or password"),
    "WRONGPASS: another password": ("whole:not-this-one@", "refuses the user or password"),
    "WRONGPASS: no such user": (f"nobody:{PASSWORD}@", "refuses the user or password"),
    "NOPERM: may only read": (f"reader:{PASSWORD}@", "is not allowed what onelane does"),
    "NOPERM: other keys": (f"elsewhere:{PASSWORD}@", "is not allowed what onelane does"),
}


def settings_for(server: Server, login: str, **more: str) -> Settings:
    return Settings(redis_url=f"redis://{login}127.0.0.1:{server.port}/0", _env_file=None, **more)


@pytest.mark.parametrize("case", LOGINS)
def test_refusal_is_called_one(server: Server, case: str) -> None:
    """OPS-127, fault 113: by doctor and at the start, for the broker as well."""
    login, said = LOGINS[case]
    settings = settings_for(server, login)
    as_broker = Settings(redis_url="redis://127.0.0.1:1/0", celery_broker_url=settings.redis_url, _env_file=None)
    for name, check in (
        ("REDIS_URL", lambda: list(examine_redis(settings))),
        ("REDIS_URL", lambda: require_redis(settings)),
        ("CELERY_BROKER_URL", lambda: list(examine_broker(as_broker))),
        ("CELERY_BROKER_URL", lambda: require_redis(as_broker)),
    ):
        with pytest.raises(ConfigurationError) as refusal:
            check()
        assert refusal.value.sentence.startswith(f"{name}: ")
        assert said in refusal.value.sentence
        assert PASSWORD not in refusal.value.sentence
        assert "\n" not in refusal.value.sentence


@pytest.mark.parametrize("case", ["NOAUTH: none", "WRONGPASS: another password", "WRONGPASS: no such user"])
def test_readiness_tells_a_refusal_from_a_server_that_is_away(server: Server, case: str) -> None:
    """OPS-127, fault 113."""
    settings = settings_for(server, LOGINS[case][0])
    celery = create_producer(settings)
    with connect_redis(settings.redis_url) as client:
        queue = CeleryQueue(celery, client)
        assert queue.trouble() == REFUSED
        assert not queue.send(WorkLane(1)), "nobody was told"
    celery.close()
    celery = create_producer(Settings(redis_url="redis://127.0.0.1:1/0", _env_file=None))
    with connect_redis("redis://127.0.0.1:1/0") as client:
        assert CeleryQueue(celery, client).trouble() == NOT_REACHABLE
    celery.close()


@pytest.mark.parametrize("name", ["whole", "narrow", "silent"])
def test_keys_of_ours_are_all_that_is_needed(server: Server, name: str) -> None:
    """OPS-122, OPS-127."""
    settings = settings_for(server, f"{name}:{PASSWORD}@")
    assert list(examine_redis(settings))
    require_redis(settings)


def test_worker_works_with_the_narrow_acl(server: Server, tmp_path: Path) -> None:
    """OPS-122: as docs/redis.md has it."""
    settings = settings_for(server, f"narrow:{PASSWORD}@")
    celery = create_producer(settings)
    worker = Worker(settings.redis_url, tmp_path / "worker", concurrency=2).begun()
    try:
        with connect_redis(settings.redis_url) as client:
            assert CeleryQueue(celery, client).send(WorkLane(1))
        wait_until(lambda: worker.noted("done") == [1], "it is worked", 60)
        assert worker.stop() == 0
        assert "NOPERM" not in worker.log
        assert "NoPermissionError" not in worker.log
    finally:
        worker.process.kill()
        celery.close()


def test_server_that_is_away_stops_no_start() -> None:
    """OPS-127: it may come."""
    settings = Settings(redis_url="redis://127.0.0.1:1/0", _env_file=None)
    require_redis(settings)
    with pytest.raises(TransientError):
        list(examine_redis(settings))
