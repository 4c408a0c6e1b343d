"""Whether Redis answers, lets us do what we do, is new enough, and keeps what it is given."""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from billing.coordination.redis_client import connect_redis
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.errors import ConfigurationError, TransientError
from billing.process.settings import Settings

ANSWER_SECONDS = 3
# Redis 6.2, February 2021: what kombu and `limits` are tested with; every Valkey is newer (it begins as 7.2).
OLDEST = (6, 2)


def examine_redis(settings: Settings) -> Iterator[Finding]:
    """The findings. Raises ConfigurationError for what must be set differently, TransientError for no answer."""
    with connect_redis(settings.redis_url, answer_seconds=ANSWER_SECONDS) as client:
        try:
            _try_commands(client, f"{settings.redis_key_prefix}doctor")
            about = _info(client)
        except (RedisError, OSError, UnicodeError) as error:
            raise explain(error, "REDIS_URL") from None
    if about is None:
        yield warning("redis", "Answers. Its user may not call INFO, so version and policy are not known.")
        return
    yield from judge_redis(about)


def judge_redis(about: Mapping[str, Any]) -> Iterator[Finding]:
    """What the server's INFO says of its version and of what it keeps. Raises ConfigurationError for a cluster."""
    if int(about.get("cluster_enabled", 0)):
        raise ConfigurationError("REDIS_URL is a cluster, which Celery cannot use. Set it to one server.")
    shown = about.get("valkey_version") or str(about.get("redis_version"))
    number = tuple(int(part) for part in str(about.get("redis_version")).split(".")[:2] if part.isdecimal())
    if number < OLDEST:
        yield wrong("redis", f"REDIS_URL answers, version {shown}: too old. Use Redis 6.2 or newer, or any Valkey.")
    else:
        yield fine("redis", f"Answers, version {shown}.")
    if (policy := about.get("maxmemory_policy", "noeviction")) != "noeviction":
        yield wrong("redis", f"REDIS_URL: maxmemory-policy is {policy}, so it may drop messages. Set noeviction there.")
    if not int(about.get("aof_enabled", 0)):
        sentence = "REDIS_URL keeps no append-only file: after a restart work waits for the sweep. Set appendonly yes."
        yield warning("redis", sentence)


def explain(error: Exception, name: str) -> ConfigurationError | TransientError:
    """What an error of the client means for who set `name`, without an address or a password."""
    text = str(error)
    if _cause(error, ssl.SSLCertVerificationError):
        why = "names another host" if "ostname mismatch" in text or "IP address mismatch" in text else "is not trusted"
        hint = "ssl_check_hostname=false" if "another" in why else "ssl_ca_certs=FILE"
        return ConfigurationError(f"{name}: the server's certificate {why}. Set the right host, or add {hint}.")
    if isinstance(error, NoPermissionError | AuthorizationError):
        return ConfigurationError(f"{name}: its user is not allowed what onelane does ({text[:120]}). Change its ACL.")
    if isinstance(error, AuthenticationError) or "invalid username-password" in text:
        return ConfigurationError(f"{name}: the server refuses the user or password. Set {name} with the right ones.")
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return ConfigurationError(f"{name} is a replica, which cannot be written. Set it to the primary.")
    if isinstance(error, ResponseError) and "DB index is out of range" in text:
        return ConfigurationError(f"{name} names a database that the server does not have. Set a lower number.")
    return TransientError(f"{name}: the server does not answer ({type(error).__name__}). Start it, or set another.")


def _cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether the error, or what it came of, is of this kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _try_commands(client: "redis.Redis", key: str) -> None:
    """Each kind of call that a process makes, on a key of ours that is gone at the end."""
    client.set(key, 1, px=5000)
    client.delete(key)
    client.rpush(key, 1)
    client.expire(key, 5)
    client.blpop([key], timeout=1)
    client.zadd(key, {"1": 1})
    client.delete(key)
    client.hset(key, "1", "1")
    client.delete(key)
    client.eval("return redis.call('EXISTS', KEYS[1])", 1, key)


def _info(client: "redis.Redis") -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = client.info()
    except NoPermissionError:
        return None
    return about
