"""Connections to Redis or Valkey that give up quickly: no result depends on Redis, only the time that it takes.

A process has one client, and that a pool with a bound. A call takes a fraction of a millisecond, so a few connections
serve hundreds of threads; who finds none free waits, and then goes on as if Redis did not answer (OPS-123).
"""

from contextlib import suppress
from queue import Empty
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
)
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from billing.errors import ConfigurationError
from billing.process.server_url import RedisServer, read_server

# By default redis-py 8 tries four times over several seconds: too long for a request. One retry at once reaches a
# server that was restarted. 1 s without an answer is a hung server (a slow one takes milliseconds), and a retry there
# would double the time.
ANSWER_SECONDS = 1.0
# Unless the URL says `max_connections`. 160 threads of a web share one interpreter, which sends one command at a time.
POOL_SIZE = 10
FREE_SECONDS = 1.0  # how long a call waits for a free connection


class Demoted(redis.ConnectionError):
    """The server is a replica: the wrong one, or one that was the primary when this connection was made."""


class _Connection(redis.Connection):
    """A connection that ends where its server turns out to be a replica.

    After a failover behind one address the server stays there, and so would every connection of the pool. The next one
    leads to the new primary, and is tried at once (OPS-128).
    """

    def read_response(self, disable_decoding: bool = False, **how: Any) -> Any:
        """Read an answer. Raises Demoted, with the connection closed."""
        try:
            return super().read_response(disable_decoding, **how)
        except (ReadOnlyError, MasterDownError) as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise Demoted(str(error)) from None


class _TlsConnection(_Connection, redis.SSLConnection):
    """The same by TLS."""


class _ToPrimary(SentinelManagedConnection):
    """A connection to the primary that the Sentinels name, closed where that does not answer.

    redis-py's own is kept then: so its next call goes to the server that does not answer, also after a failover.
    """

    def read_response(self, disable_decoding: bool = False, **how: Any) -> Any:
        """Read an answer. Raises what it cannot be read for, with the connection closed."""
        return super().read_response(disable_decoding, **{"disconnect_on_error": True, **how})


class _ToPrimaryByTls(_ToPrimary, SentinelManagedSSLConnection):
    """The same by TLS."""


class _ToPrimaryPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the primary, no more than so many; who finds none free waits."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close them; the free ones alone where the Sentinels name another primary.

        redis-py closes those while somebody may take them. Here they are nobody else's meanwhile.
        """
        if inuse_connections:
            super().disconnect()
            return
        free = []
        with suppress(Empty):
            while True:
                free.append(self.pool.get_nowait())
        for connection in reversed(free):  # None: a place for one that was not made yet
            if connection is not None:
                connection.disconnect()
            self.pool.put_nowait(connection)


def connect_redis(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> "redis.Redis":
    """A client with a connection pool, which connects at first use. Raises ConfigurationError.

    `answer_seconds`: after which a server is given up, unless the URL says.
    """
    try:
        server = read_server(url)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL {error}.") from None
    # driver_info: else each new connection reads redis-py's version from its files, 0.9 of 1.2 ms with the pool's
    # lock held.
    common: dict[str, Any] = {"max_connections": POOL_SIZE, "timeout": FREE_SECONDS, "driver_info": None}
    common |= connection_arguments(server, answer_seconds)
    common |= {"db": server.database, "username": server.username, "password": server.password}
    common["retry"] = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    if server.master:
        known = sentinel_arguments(server, answer_seconds)
        common |= {"connection_class": _ToPrimaryByTls if server.tls else _ToPrimary, **(server.tls or {})}
        sentinel = Sentinel(server.hosts, sentinel_kwargs=known)  # type: ignore[no-untyped-call]
        client: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
            server.master, connection_pool_class=_ToPrimaryPool, **common
        )
        return client
    if server.socket:
        kind: Any = redis.UnixDomainSocketConnection
        common["path"] = server.socket
    else:
        kind = _TlsConnection if server.tls else _Connection
        common["host"], common["port"] = server.hosts[0]
        common |= server.tls or {}
    pool = redis.BlockingConnectionPool(connection_class=kind, **common)  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(pool)


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


def is_refusal(error: BaseException | None) -> bool:
    """Whether a server answered that our login is wrong, or not allowed this (NOAUTH, WRONGPASS, NOPERM)."""
    return comes_of(error, AuthenticationError, AuthorizationError, NoPermissionError)


def comes_of(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    """Whether the error, or what it came of, is of one of these kinds."""
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False
