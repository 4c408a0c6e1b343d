"""What REDIS_URL and CELERY_BROKER_URL mean: read once, for the Redis client and for Celery alike.

redis-py and kombu each know parameters of a URL that the other ignores or dies of. So neither of them sees the query: a
parameter is one of PARAMETERS and works in both, or it is refused when the settings are read (OPS-120). TLS verifies
certificate and host name unless the URL says otherwise (OPS-121).
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
TLS_SCHEMES = ("rediss", "sentinels", "amqps")
EXAMPLE = "redis://host:6379/0"
PORT, SENTINEL_PORT = 6379, 26379
VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERIFY |= {f"CERT_{name.upper()}": mode for name, mode in list(VERIFY.items())}
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One server, or the Sentinels that know which one it is now."""

    hosts: tuple[tuple[str, int], ...]  # one, or the Sentinels'; none for a socket
    socket: str | None = None
    master: str | None = None  # its name at the Sentinels
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: Mapping[str, Any] | None = None  # redis-py's ssl_… arguments
    options: Mapping[str, Any] = field(default_factory=dict)  # arguments of a connection that the URL sets
    sentinel_login: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OtherBroker:
    """A broker that is not Redis: its URL without parameters, and Celery's `broker_use_ssl`."""

    url: str
    tls: dict[str, Any] | None


def read_server(url: str) -> RedisServer:
    """Read the address of a Redis. Raises ValueError with what is wrong, never with the address."""
    scheme, rest = _split(url)
    if scheme not in REDIS_SCHEMES:
        raise ValueError(f"is no address of one Redis (a cluster will not do); write it like {EXAMPLE}")
    address, given = _query(rest)
    found = _parameters(given, PARAMETERS | (SENTINEL_PARAMETERS if "sentinel" in scheme else {}))
    tls = {name: found.pop(name) for name in list(found) if name.startswith("ssl_")}
    if tls and scheme not in TLS_SCHEMES:
        raise ValueError(f"has {sorted(tls)[0]} and no TLS; write rediss://, or take the parameter out")
    login, _, where = address.rpartition("@")
    username, password = _login(login)
    username, password = found.pop("username", username), found.pop("password", password)
    common = {"username": username, "password": password, "database": found.pop("db", None)}
    if scheme == "unix":
        return RedisServer((), socket=unquote(where), options=found, **{**common, "database": common["database"] or 0})
    hosts, _, path = where.partition("/")
    number = _number(path) if common["database"] is None else common["database"]
    names = {name.removeprefix("sentinel_"): found.pop(name) for name in list(found) if name.startswith("sentinel_")}
    master = found.pop("master_name", None)
    if "sentinel" in scheme and not master:
        raise ValueError("names no master; add it like sentinel://host:26379/0?master_name=mymaster")
    places = [_host(one, SENTINEL_PORT if master else PORT) for one in hosts.split(",")]
    if len(places) > 1 and not master:
        raise ValueError(f"names several servers, which only sentinel:// may; write it like {EXAMPLE}")
    return RedisServer(
        tuple(places),
        master=master,
        tls={"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **tls} if scheme in TLS_SCHEMES else None,
        options=found,
        sentinel_login=names,
        **{**common, "database": number},
    )


def read_broker(url: str) -> RedisServer | OtherBroker:
    """Read the address of a broker. Raises ValueError with what is wrong, never with the address."""
    scheme, rest = _split(url)
    if scheme in REDIS_SCHEMES:
        return read_server(url)
    address, given = _query(rest)
    if scheme not in ("amqp", "amqps", "pyamqp"):
        if given:
            raise ValueError(f"has the parameter {next(iter(given))}, which no part of onelane knows; take it out")
        return OtherBroker(f"{scheme}://{address}", None)
    found = _parameters(given, TLS_PARAMETERS)
    if found and scheme != "amqps":
        raise ValueError(f"has {next(iter(found))} and no TLS; write amqps://, or take the parameter out")
    if scheme != "amqps":
        return OtherBroker(f"{scheme}://{address}", None)
    tls = {name.removeprefix("ssl_"): value for name, value in found.items() if name != "ssl_check_hostname"}
    tls.setdefault("cert_reqs", ssl.CERT_REQUIRED)
    if found.get("ssl_check_hostname", True) and tls["cert_reqs"] != ssl.CERT_NONE:
        tls["server_hostname"] = None  # kombu: the URL's, which is compared then
    return OtherBroker(f"{scheme}://{address}", tls)


def celery_urls(server: RedisServer) -> str:
    """The same server as kombu writes it: no parameters, and each Sentinel with the whole login."""
    login = f"{quote(server.username or '', safe='')}:{quote(server.password, safe='')}@" if server.password else ""
    if server.socket:
        return f"redis+socket://{login}{server.socket}"
    scheme = "sentinel" if server.master else "rediss" if server.tls else "redis"
    shown = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in server.hosts)
    return ";".join(f"{scheme}://{login}{place}/{server.database}" for place in shown)


def _split(url: str) -> tuple[str, str]:
    scheme, found, rest = url.partition("://")
    if not found:
        raise ValueError(f"is no address; write it like {EXAMPLE}")
    return scheme, rest.replace(f";{scheme}://", ",")  # kombu's way to write several


def _query(rest: str) -> tuple[str, dict[str, str]]:
    address, _, query = rest.partition("?")
    if "#" in rest:
        raise ValueError("has a '#'; write it as %23")
    pairs = parse_qsl(query, keep_blank_values=True)
    if repeated := [name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1]:
        raise ValueError(f"has {repeated[0]} twice; take one out")
    return address, dict(pairs)


def _parameters(given: Mapping[str, str], known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    found = {}
    for name, text in given.items():
        if name not in known:
            raise ValueError(f"has the parameter {name[:40]!r}, which is not known; known are {', '.join(known)}")
        try:
            found[name] = known[name](text)
        except (ValueError, KeyError):
            raise ValueError(f"has a value of {name} that makes no sense") from None
        except OSError:
            raise ValueError(f"names a file in {name} that cannot be read") from None
    return found


def _login(text: str) -> tuple[str | None, str | None]:
    username, _, password = text.partition(":")
    return unquote(username) or None, unquote(password) or None


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return unquote(parts.hostname or "127.0.0.1"), parts.port or port
    except ValueError:
        raise ValueError(f"has a host or port that makes no sense; write it like {EXAMPLE}") from None


def _number(path: str) -> int:
    if path and not path.isdecimal():
        raise ValueError(f"has a database that is no number; write it like {EXAMPLE}")
    return int(path or 0)


def _flag(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError
    return text.lower() in YES


def _file(text: str) -> str:
    with Path(text).open("rb"):
        return text


def _folder(text: str) -> str:
    next(Path(text).iterdir(), None)
    return text


def _between(least: float, most: float, kind: Callable[[str], Any] = float) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return number


TLS_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": VERIFY.__getitem__,
    "ssl_check_hostname": _flag,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
}
PARAMETERS: dict[str, Callable[[str], Any]] = {
    "db": _between(0, 1_000_000, int),
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": _between(0.1, 60),  # how long an answer may take; a call that waits on purpose has that on top
    "socket_connect_timeout": _between(0.1, 60),
    "socket_keepalive": _flag,
    "health_check_interval": _between(0, 3600, int),
    "retry_on_timeout": _flag,
    "max_connections": _between(4, 1000, int),
    **TLS_PARAMETERS,
    "ssl_ca_path": _folder,
    "ssl_password": str,
    "ssl_ciphers": str,
    "ssl_min_version": lambda text: ssl.TLSVersion(int(text)),
}
SENTINEL_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "master_name": str,
    "sentinel_username": str,
    "sentinel_password": str,
}
