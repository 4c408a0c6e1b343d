"""Connections to Redis or Valkey that give up quickly: no result depends on Redis, only the time that it takes."""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from billing.errors import ConfigurationError
from billing.process.server_url import RedisServer, read_server

# By default redis-py 8 tries four times over several seconds: too long for a request. One retry at once reaches a
# server that was restarted. 1 s without an answer is a hung server (a slow one takes milliseconds), and a retry there
# would double the time.
ANSWER_SECONDS = 1.0


def connect_redis(url: str, *, answer_seconds: float = ANSWER_SECONDS, blocks_seconds: float = 0) -> "redis.Redis":
    """A client with a connection pool, which connects at first use. Raises ConfigurationError.

    `answer_seconds`: after which a server is given up, unless the URL says; `blocks_seconds`: how long its calls may
    block on purpose, such as a blocking pop.
    """
    try:
        server = read_server(url)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL {error}.") from None
    # driver_info: else each new connection reads redis-py's version from its files, 0.9 of 1.2 ms with the pool's
    # lock held.
    common = connection_arguments(server, answer_seconds) | {"driver_info": None}
    common["socket_timeout"] += blocks_seconds
    common |= {"db": server.database, "username": server.username, "password": server.password}
    common["retry"] = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    if server.master:
        known = sentinel_arguments(server, answer_seconds)
        common |= {"ssl": True, **server.tls} if server.tls else {}
        sentinel = Sentinel(server.hosts, sentinel_kwargs=known, **common)  # type: ignore[no-untyped-call]
        client: redis.Redis = sentinel.master_for(server.master)  # type: ignore[no-untyped-call]
        return client
    if server.socket:
        kind: Any = redis.UnixDomainSocketConnection
        common["path"] = server.socket
    else:
        kind = redis.SSLConnection if server.tls else redis.Connection
        common["host"], common["port"] = server.hosts[0]
        common |= server.tls or {}
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **common))


def connection_arguments(server: RedisServer, answer_seconds: float) -> dict[str, Any]:
    """How a connection behaves: ours, and over them what the URL sets."""
    arguments: dict[str, Any] = {
        "socket_connect_timeout": answer_seconds,
        "socket_timeout": answer_seconds,
        "socket_keepalive": True,
        "health_check_interval": 5,
        **server.options,
    }
    if server.socket:
        for name in ("socket_connect_timeout", "socket_keepalive"):
            del arguments[name]  # a socket of this machine knows neither
    return arguments


def sentinel_arguments(server: RedisServer, answer_seconds: float) -> dict[str, Any]:
    """The arguments of the connections to the Sentinels: their own login, and the TLS of the servers."""
    timeouts = connection_arguments(server, answer_seconds)
    keep = {name: timeouts[name] for name in ("socket_timeout", "socket_connect_timeout", "socket_keepalive")}
    return {**keep, **server.sentinel_login, **({"ssl": True, **server.tls} if server.tls else {})}
