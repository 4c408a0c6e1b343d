"""Every state in which a real Redis answers and does not serve: each of its users goes on, and uses it again after."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from app.limits.rates import RateLimit, shared_storage
from billing.coordination.jobs import WorkLane
from billing.coordination.locks import RedisLocks
from billing.coordination.queue import NOT_REACHABLE, TAKES_NOTHING, CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.coordination.wakeups import RedisWakeups
from billing.doctor.redis import examine_redis, require_redis
from billing.errors import ConfigurationError, TransientError
from billing.process.settings import Settings
from billing.stripe_gateway.budget import Rank
from billing.stripe_gateway.shared_budget import SharedBudget
from tests.kills.proxy import Proxy
from tests.support.redis_server import Certificate, Server, running
from tests.support.valkey import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server("redis-server", tmp_path_factory.mktemp("states") / "server", "busy-reply-threshold 1")
    with running(made):
        yield made


@contextmanager
def configured(client: "redis.Redis", name: str, value: str) -> Iterator[None]:
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


@contextmanager
def busy(client: "redis.Redis", server: Server) -> Iterator[None]:
    """BUSY: somebody's script does not end."""

    def run() -> None:
        with server.client() as own:
            own.connection_pool.connection_kwargs["socket_timeout"] = 60
            with pytest.raises(redis.ResponseError):
                own.eval("while true do end", 0)

    script = threading.Thread(target=run)
    script.start()
    wait_until(lambda: _says(client.ping, "BUSY"), "the script runs")
    try:
        yield
    finally:
        client.script_kill()
        script.join(30)


@contextmanager
def unable_to_save(client: "redis.Redis", server: Server) -> Iterator[None]:
    """MISCONF: the last snapshot failed."""
    folder = server.folder / "dump.rdb"
    folder.mkdir()

    def save(status: str) -> None:
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == status, f"a snapshot is {status}")

    with configured(client, "save", "3600 1"):
        save("err")
        try:
            yield
        finally:
            folder.rmdir()
            save("ok")
            folder.unlink()


@contextmanager
def a_replica(client: "redis.Redis", _server: Server, stale: str = "yes") -> Iterator[None]:
    """READONLY, or MASTERDOWN for one that does not serve what is old."""
    with configured(client, "replica-serve-stale-data", stale):
        client.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


STATES: dict[str, Callable[["redis.Redis", Server], AbstractContextManager[None]]] = {
    "BUSY": busy,
    "MISCONF": unable_to_save,
    "OOM": lambda client, _: configured(client, "maxmemory", "1"),
    "READONLY": a_replica,
    "MASTERDOWN": lambda client, server: a_replica(client, server, "no"),
    "NOREPLICAS": lambda client, _: configured(client, "min-replicas-to-write", "1"),
    "max number of clients reached": lambda client, _: configured(client, "maxclients", "1"),
}


@pytest.mark.parametrize("state", STATES)
def test_state_in_which_it_serves_nothing_costs_time_only(server: Server, state: str) -> None:
    """API-29, API-31, LAN-1, OPS-50, OPS-136, WHK-64; fault 133"""
    url = f"redis://127.0.0.1:{server.port}/0"
    mine, settings = connect_redis(url), Settings(redis_url=url, _env_file=None)
    celery = create_producer(settings)
    queue, wakeups = CeleryQueue(celery, mine), RedisWakeups(mine)
    locks, rate = RedisLocks(mine, lifetime_seconds=5), RateLimit("reads", "9/minute", storage=shared_storage(mine))
    budget = SharedBudget(20, client=mine, key="onelane:stripe-budget", count_workers=lambda: 4)
    with server.client() as watching, STATES[state](watching, server):
        if "clients" not in state:
            tried = (lambda: watching.set("written", 1)), (lambda: watching.get("written"))
            assert any(_says(call, state) for call in tried)
        assert not queue.send(WorkLane(1))
        queue.taken(WorkLane(1))
        wakeups.wake(["chk_1"])
        wakeups.wait("chk_2", 0.1)
        with locks.hold("lane:1") as lease:
            assert lease is not None
        rate.take("ann")
        assert budget.take([Rank.FIRST]).rank is Rank.FIRST
        budget.refused(pause=0.1)
        require_redis(settings)  # it may come to itself, so no start is stopped
        assert queue.trouble() in (TAKES_NOTHING, NOT_REACHABLE)
        assert queue.trouble() == TAKES_NOTHING or state in ("BUSY", "max number of clients reached")
        with pytest.raises((TransientError, ConfigurationError)) as said:
            list(examine_redis(settings))
        assert said.value.sentence.startswith("REDIS_URL")
        assert "Start it" not in said.value.sentence or "clients" in state
    wait_until(lambda: queue.send(WorkLane(2)), "messages are taken again")
    wait_until(lambda: queue.trouble() is None, "nothing is wrong")
    with locks.hold("lane:1"):
        assert mine.exists("onelane:lock:lane:1")
    celery.close()
    mine.close()


def test_part_of_a_cluster_stops_every_start(tmp_path: Path) -> None:
    """OPS-126, fault 133: it answers most calls by naming another server, for ever."""
    with running(one := Server("redis-server", tmp_path, "cluster-enabled yes")):
        settings = Settings(redis_url=f"redis://127.0.0.1:{one.port}/0", _env_file=None)
        for check in (require_redis, lambda given: list(examine_redis(given))):
            with pytest.raises(ConfigurationError, match="is a cluster"):
                check(settings)


@pytest.mark.parametrize("name", ["redis_url", "celery_broker_url"])
def test_database_that_the_server_does_not_have_stops_every_start(server: Server, name: str) -> None:
    """OPS-1, fault 133: beside one that it has, the broker's may be another."""
    url = f"redis://127.0.0.1:{server.port}"
    beside = {"redis_url": f"{url}/0", "celery_broker_url": f"{url}/1"}
    require_redis(Settings(**beside, _env_file=None))
    with pytest.raises(ConfigurationError, match=f"{name.upper()} names a database that the server does not have"):
        require_redis(Settings(**{**beside, name: f"{url}/99"}, _env_file=None))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_primary_that_became_a_replica_is_left(tmp_path: Path, tls: bool) -> None:
    """OPS-128, fault 134: behind one address, as of a managed service; the old connections stay at the old server."""
    certificate = Certificate(tmp_path, name="127.0.0.1") if tls else None
    old, new = (Server("redis-server", tmp_path / name, tls=certificate) for name in ("old", "new"))
    address = Proxy(old.port)
    url = f"redis{'s' if tls else ''}://127.0.0.1:{address.port}/0"
    url += f"?ssl_ca_certs={certificate.chain}" if certificate else ""
    with running(old, new), connect_redis(url) as mine:
        celery = create_producer(Settings(redis_url=url, _env_file=None))
        queue, wakeups, locks = CeleryQueue(celery, mine), RedisWakeups(mine), RedisLocks(mine, lifetime_seconds=5)
        assert queue.send(WorkLane(1))
        with old.client() as told:
            told.replicaof("127.0.0.1", str(new.port))
        address.target = new.port
        assert queue.send(WorkLane(2))
        wakeups.wake(["chk_1"])
        with locks.hold("lane:1"), new.client() as there:
            assert there.exists("onelane:lock:lane:1", "onelane:checkout", "onelane:wakeups") == 3
        celery.close()
    address.close()


def test_address_that_is_a_replicas_is_still_called_one(server: Server) -> None:
    """OPS-128: one that never was another's."""
    with server.client() as told, a_replica(told, server):
        settings = Settings(redis_url=f"redis://127.0.0.1:{server.port}/0", _env_file=None)
        with pytest.raises(ConfigurationError, match="REDIS_URL is a replica"):
            list(examine_redis(settings))


# What redis-py leaves of an answer whose first word it knows.
KNOWN = {
    "READONLY": "read only replica",
    "MASTERDOWN": "Link with MASTER is down",
    "OOM": "when used memory",
    "NOREPLICAS": "Not enough good replicas",
}


def _says(call: Callable[[], object], words: str) -> bool:
    """Whether the server refuses the call with these words."""
    try:
        call()
    except redis.RedisError as error:
        return any(part in str(error) for part in (words, KNOWN.get(words, words)))
    return False
