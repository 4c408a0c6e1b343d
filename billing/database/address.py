"""DATABASE_URL: read, and refused in one line where it cannot be meant so. No sentence shows a password."""

import sqlalchemy as sa
from psycopg import pq

from billing.errors import ConfigurationError

LIKE = "Set it like postgresql://user@host/name."
DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}


def read_url(text: str) -> sa.URL:
    """The URL with its driver. Raises ConfigurationError."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigurationError(f"DATABASE_URL is not a database URL. {LIKE}") from None
    backend, _, driver = url.drivername.partition("+")
    if backend not in DRIVERS:
        raise ConfigurationError(f"DATABASE_URL names {backend}. Set it to a postgresql:// or sqlite:/// URL.")
    if url.drivername not in DRIVERS:
        raise ConfigurationError(f"DATABASE_URL names the driver {driver}. Begin it with {backend}://.")
    if backend != "sqlite":
        _check(url)
    return url.set(drivername=DRIVERS[url.drivername])


def _check(url: sa.URL) -> None:
    if "@" in (url.host or ""):
        raise ConfigurationError("DATABASE_URL has two @. Write the one in the password as %40.")
    if url.port is not None and not 0 < url.port < 65536:
        raise ConfigurationError(f"DATABASE_URL: {url.port} is no port. {LIKE}")
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name in url.query:
        if name not in known:
            raise ConfigurationError(f"DATABASE_URL: PostgreSQL knows no parameter {name}. Take it out.")
