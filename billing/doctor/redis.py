"""Whether Redis answers, lets us do what we do, is new enough, keeps what it is given, and is used by us alone."""

import ssl
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from billing.coordination.redis_client import ANSWER_SECONDS as REDIS_SECONDS
from billing.coordination.redis_client import Demoted, comes_of, connect_redis, is_refusal
from billing.database import Database
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.errors import ConfigurationError, TransientError
from billing.operators.neighbours import SHARED, Neighbours
from billing.process.server_url import OtherBroker, read_broker
from billing.process.settings import Settings

ANSWER_SECONDS = 3
NO_DATABASE = "DB index is out of range"
FAILURES = (RedisError, OSError, UnicodeError)
# Redis 6.2, February 2021: what kombu and `limits` are tested with; every Valkey is newer (it begins as 7.2).
OLDEST = (6, 2)


def examine_redis(settings: Settings) -> Iterator[Finding]:
    """The findings. Raises ConfigurationError for what must be set differently, TransientError for no answer."""
    yield from examine_server(settings.redis_url, "redis", "REDIS_URL", prefix=settings.redis_key_prefix)


def examine_server(url: str, subject: str, name: str, *, prefix: str) -> Iterator[Finding]:
    """The same of any server, which the setting `name` names."""
    try:
        about = _ask(url, prefix, answer_seconds=ANSWER_SECONDS)
    except FAILURES as error:
        raise explain(error, name) from None
    if about is None:
        yield warning(subject, "Answers. Its user may not call INFO, so version and policy are not known.")
        return
    yield from judge_redis(about, subject, name)


def require_redis(settings: Settings) -> None:
    """Refuse a Redis that will not do however long it is waited for.

    It is too old or a part of a cluster, lacks that database, or refuses our login.

    For a process at its start: one that does not answer may come. Raises ConfigurationError.
    """
    servers = {"REDIS_URL": settings.redis_url, "CELERY_BROKER_URL": settings.broker_url}
    for name, url in servers.items():
        if name != "REDIS_URL" and (url == settings.redis_url or isinstance(read_broker(url), OtherBroker)):
            continue
        try:
            about = _ask(url, settings.redis_key_prefix, answer_seconds=REDIS_SECONDS)
        except FAILURES as error:
            if is_refusal(error) or NO_DATABASE in str(error):
                raise explain(error, name) from None
            continue
        if about and (wrong_version := _too_old(about, name)):
            raise ConfigurationError(wrong_version)


def judge_redis(about: Mapping[str, Any], subject: str = "redis", name: str = "REDIS_URL") -> Iterator[Finding]:
    """What the server's INFO says of its version and of what it keeps. Raises ConfigurationError for a cluster."""
    if too_old := _too_old(about, name):
        yield wrong(subject, too_old)
    else:
        yield fine(subject, f"Answers, version {_version(about)}.")
    if (policy := about.get("maxmemory_policy", "noeviction")) != "noeviction":
        yield wrong(subject, f"{name}: maxmemory-policy is {policy}, so it may drop messages. Set noeviction there.")
    if not int(about.get("aof_enabled", 0)):
        sentence = f"{name} keeps no append-only file: after a restart work waits for the sweep. Set appendonly yes."
        yield warning(subject, sentence)


def examine_neighbours(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether processes of another ledger use the same keys. Raises TransientError for no answer."""
    try:
        with connect_redis(settings.redis_url, answer_seconds=ANSWER_SECONDS) as client:
            shared = Neighbours(client, database, prefix=settings.redis_key_prefix).are_there()
    except FAILURES as error:
        raise explain(error, "REDIS_URL") from None
    if shared:
        yield wrong("redis", SHARED)


def _is_cluster(about: Mapping[str, Any]) -> bool:
    return bool(int(about.get("cluster_enabled", 0)))


def _version(about: Mapping[str, Any]) -> str:
    return str(about.get("valkey_version") or about.get("redis_version"))


def _too_old(about: Mapping[str, Any], name: str) -> str | None:
    """The sentence about a server that is too old. Raises ConfigurationError for a cluster."""
    if _is_cluster(about):
        raise ConfigurationError(f"{name} is a cluster, which Celery cannot use. Set it to one server.")
    number = tuple(int(part) for part in str(about.get("redis_version")).split(".")[:2] if part.isdecimal())
    if number >= OLDEST:
        return None
    return f"{name} answers, version {_version(about)}: too old. Use Redis 6.2 or newer, or any Valkey."


def explain(error: Exception, name: str) -> ConfigurationError | TransientError:
    """What an error of the client means for who set `name`, without an address or a password."""
    text = str(error)
    if comes_of(error, ssl.SSLCertVerificationError):
        why = "names another host" if "ostname mismatch" in text or "IP address mismatch" in text else "is not trusted"
        hint = "ssl_check_hostname=false" if "another" in why else "ssl_ca_certs=FILE"
        return ConfigurationError(f"{name}: the server's certificate {why}. Set the right host, or add {hint}.")
    if isinstance(error, NoPermissionError | AuthorizationError):
        return ConfigurationError(f"{name}: its user is not allowed what onelane does ({text[:120]}). Change its ACL.")
    if isinstance(error, AuthenticationError) or "invalid username-password" in text:
        return ConfigurationError(f"{name}: the server refuses the user or password. Set {name} with the right ones.")
    if isinstance(error, Demoted):
        return ConfigurationError(f"{name} is a replica, which cannot be written. Set it to the primary.")
    if isinstance(error, ResponseError) and NO_DATABASE in text:
        return ConfigurationError(f"{name} names a database that the server does not have. Set a lower number.")
    if isinstance(error, ResponseError):  # OOM, MISCONF, BUSY, NOREPLICAS
        return TransientError(
            f"{name}: the server answers, and takes nothing: {text[:120].rstrip('.')}. Mend that there."
        )
    return TransientError(f"{name}: the server does not answer ({type(error).__name__}). Start it, or set another.")


def _ask(url: str, prefix: str, *, answer_seconds: float) -> dict[str, Any] | None:
    """Make each kind of call that a process makes; the server's INFO, or None where that is not allowed."""
    with connect_redis(url, answer_seconds=answer_seconds) as client:
        try:
            about: dict[str, Any] | None = client.info()
        except NoPermissionError:
            about = None
        if not _is_cluster(about or {}):  # which answers most calls by naming another server
            _try_commands(client, f"{prefix}try:{uuid.uuid4()}")
        return about


def _try_commands(client: "redis.Redis", key: str) -> None:
    """On a key of ours that is gone at the end."""
    client.ping()
    client.set(key, 1, px=5000, nx=True)
    client.delete(key)
    client.rpush(key, 1)
    client.expire(key, 5)
    client.brpop([key], timeout=1)
    client.sadd(key, 1)
    client.delete(key)
    client.zadd(key, {"1": client.time()[0]})
    client.zrangebyscore(key, "-inf", "+inf")
    client.delete(key)
    client.hset(key, "1", "1")
    client.delete(key)
    client.xadd(key, {"id": "1"}, maxlen=1)
    client.xread({key: "0-0"})
    client.delete(key)
    client.eval("return redis.call('EXISTS', KEYS[1])", 1, key)
