"""REDIS_URL and CELERY_BROKER_URL: a parameter works in the client and in the queue, or stops the start."""

from typing import Any

import pytest

from billing.coordination.queue import create_producer
from billing.coordination.redis_client import connect_redis
from billing.errors import ConfigurationError
from billing.process.settings import Settings, load_settings

SAME = {
    "socket_timeout=5": ("socket_timeout", 5.0),
    "socket_connect_timeout=2": ("socket_connect_timeout", 2.0),
    "socket_keepalive=false": ("socket_keepalive", False),
    "health_check_interval=11": ("health_check_interval", 11),
    "retry_on_timeout=true": ("retry_on_timeout", True),
    "client_name=onelane": ("client_name", "onelane"),
    "max_connections=40": ("max_connections", 40),
    "db=3": ("db", 3),
    "username=ann&password=b%40c": ("password", "b@c"),
    "password=p": ("password", "p"),
}
REFUSED = {
    "redis://h/0?socket_timeout=soon": "socket_timeout",
    "redis://h/0?socket_timeout=0": "socket_timeout",
    "redis://h/0?socket_timeout=nan": "socket_timeout",
    "redis://h/0?socket_timeout=": "socket_timeout",
    "redis://h/0?socket_timeout=1&socket_timeout=2": "twice",
    "redis://h/0?socket_keepalive=maybe": "socket_keepalive",
    "redis://h/0?max_connections=1": "max_connections",
    "redis://h/0?protocol=3": "protocol",
    "redis://h/0?visibility_timeout=1": "visibility_timeout",
    "redis://h/0?virtual_host=1": "virtual_host",
    "redis://h/0?credential_provider=os.system": "credential_provider",
    "redis://h/0?ssl_cert_reqs=none": "rediss://",
    "rediss://h/0?ssl_cert_reqs=sometimes": "ssl_cert_reqs",
    "rediss://h/0?ssl_ca_certs=/nowhere.pem": "ssl_ca_certs",
    "redis://h/zero": "no number",
    "redis://h:99999/0": "port",
    "redis://a,b/0": "sentinel://",
    "redis://:a#b@h/0": "%23",
    "redis+cluster://h/0": "cluster",
    "sentinel://h/0": "master",
    "redis://h/0?master_name=m": "master_name",
    "not-an-address": "no address",
}
BROKERS_REFUSED = ("amqp://h//?socket_timeout=5", "amqp://h//?ssl_ca_certs=/etc/hosts", "amqps://h//?heartbeat=x")


def client_arguments(url: str) -> dict[str, Any]:
    with connect_redis(url) as client:
        return dict(client.connection_pool.connection_kwargs) | {
            "max_connections": client.connection_pool.max_connections
        }


def queue_arguments(url: str) -> dict[str, Any]:
    """What the queue's own connections are made with."""
    celery = create_producer(Settings(redis_url=url, _env_file=None))
    connection = celery.connection_for_write()
    told = connection.info() | dict(connection.transport_options)
    return told | {"db": int(connection.virtual_host), "password": connection.password}


@pytest.mark.parametrize("query", SAME)
def test_parameter_means_the_same_to_client_and_queue(query: str) -> None:
    """OPS-120, faults row 102."""
    name, value = SAME[query]
    url = f"redis://h/1?{query}"
    assert client_arguments(url)[name] == value
    told = queue_arguments(url)[name]
    assert told == (value + 1 if name == "socket_timeout" else value), "a worker's pop waits a second on purpose"


@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
@pytest.mark.parametrize("url", REFUSED)
def test_parameter_that_only_one_knows_stops_every_start(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    """OPS-120, faults row 102: web, worker, beat and doctor read the settings before anything else."""
    if name == "CELERY_BROKER_URL" and url.startswith(("redis+cluster", "not-")):
        url = f"redis://h/0?nonsense=1&{REFUSED[url]}"
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert refusal.value.sentence.startswith(f"{name}: ")
    assert "\n" not in refusal.value.sentence
    assert REFUSED.get(url, "nonsense") in refusal.value.sentence


@pytest.mark.parametrize("url", BROKERS_REFUSED)
def test_parameter_of_another_broker_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """OPS-120."""
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    with pytest.raises(ConfigurationError, match="CELERY_BROKER_URL"):
        load_settings()


def test_other_broker_by_tls_is_verified() -> None:
    """OPS-121: kombu's `amqps` compares no host name unless it is told to."""
    celery = create_producer(Settings(celery_broker_url="amqps://u:p@rabbit.example//", _env_file=None))
    told = celery.connection_for_write().ssl
    assert told["cert_reqs"].name == "CERT_REQUIRED"
    assert "server_hostname" in told


def test_refusal_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-3."""
    monkeypatch.setenv("REDIS_URL", "redis://:sentinel-password@h/0?nonsense=sentinel-value")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert "sentinel-" not in refusal.value.sentence
