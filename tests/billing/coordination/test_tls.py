"""TLS to Redis: the client and the queue verify the same, against a real server with certificates of its own."""

from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import pytest
import redis

from billing.coordination.jobs import WorkLane
from billing.coordination.queue import CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.doctor.redis import examine_redis
from billing.errors import OnelaneError
from billing.process.settings import Settings
from tests.support.redis_server import PASSWORD, Certificate, Server, running
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def own(home: Path) -> Iterator[Server]:
    """Its certificate names 127.0.0.1."""
    server = Server(
        "redis-server", home / "own", f"requirepass {PASSWORD}", tls=Certificate(home / "own", name="127.0.0.1")
    )
    with running(server):
        yield server


@pytest.fixture(scope="module")
def other(home: Path) -> Iterator[Server]:
    """Its certificate names another host."""
    certificate = Certificate(home / "other", name="redis.example")
    server = Server("redis-server", home / "other", f"requirepass {PASSWORD}", tls=certificate)
    with running(server):
        yield server


CASES = {
    "unknown to us": ("own", "", "is not trusted"),
    "trusted": ("own", "ssl_ca_certs={own}/127.0.0.1.pem", None),
    "trusted, another host": ("other", "ssl_ca_certs={other}/redis.example.pem", "names another host"),
    "trusted, any host": ("other", "ssl_ca_certs={other}/redis.example.pem&ssl_check_hostname=false", None),
    "another authority": ("own", "ssl_ca_certs={other}/redis.example.pem", "is not trusted"),
    "not verified": ("other", "ssl_cert_reqs=none", None),
    "not verified, as kombu writes it": ("other", "ssl_cert_reqs=CERT_NONE", None),
}


@pytest.mark.parametrize("case", CASES)
def test_certificate_is_verified_by_client_queue_and_doctor(
    case: str, own: Server, other: Server, valkey: Valkey
) -> None:
    """OPS-121, faults row 101: the password goes to nobody whose certificate is not the host's."""
    which, query, refused = CASES[case]
    server = {"own": own, "other": other}[which]
    places = {"own": own.folder, "other": other.folder}
    url = f"rediss://:{PASSWORD}@127.0.0.1:{server.port}/0?{query.format(**places)}"
    settings = Settings(redis_url=url, _env_file=None)
    celery = create_producer(settings)
    # The mark in a Redis without TLS, so that only the broker's half decides here.
    queue = CeleryQueue(celery, connect_redis(valkey.url))
    try:
        with connect_redis(url) as client:
            assert _reached(client) == (refused is None), "the client"
        assert (queue.trouble() is None) == (refused is None), "the queue's readiness"
        assert queue.send(WorkLane(1 + list(CASES).index(case))) == (refused is None), "the queue"
    finally:
        celery.close()
        kombu.pools.reset()  # they tell servers apart by address, not by how they are verified
    if refused:
        with pytest.raises(OnelaneError, match=refused) as refusal:
            list(examine_redis(settings))
        assert PASSWORD not in str(refusal.value)
    else:
        assert list(examine_redis(settings))


def _reached(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="module")
def sentinel(home: Path, own: Server) -> Iterator[Server]:
    """One that watches `own`, by TLS as well."""
    options = (
        f"sentinel monitor mymaster 127.0.0.1 {own.port} 1",
        f"sentinel auth-pass mymaster {PASSWORD}",
        "tls-replication yes",
        f"tls-ca-cert-file {home}/both.pem",
    )
    certificate = Certificate(home / "sentinel", name="localhost")
    (home / "both.pem").write_bytes(certificate.chain.read_bytes() + (own.folder / "127.0.0.1.pem").read_bytes())
    server = Server("redis-sentinel", home / "sentinel", *options, tls=certificate)
    with running(server):
        yield server


@pytest.mark.parametrize("known", [True, False])
def test_sentinels_and_the_servers_that_they_name_are_verified(
    home: Path, sentinel: Server, valkey: Valkey, known: bool
) -> None:
    """OPS-121, OPS-124."""
    whom = f"&ssl_ca_certs={home}/both.pem" if known else ""
    url = f"sentinels://:{PASSWORD}@localhost:{sentinel.port}/0?master_name=mymaster{whom}"
    celery = create_producer(Settings(redis_url=url, _env_file=None))
    queue = CeleryQueue(celery, connect_redis(valkey.url))
    try:
        with connect_redis(url) as client:
            assert _reached(client) == known, "the client"
        assert (queue.trouble() is None) == known, "the queue's readiness"
        assert queue.send(WorkLane(100 + known)) == known, "the queue"
    finally:
        celery.close()
        kombu.pools.reset()
