"""DATABASE_URL that is wrong: the reason in one line, which shows no password."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from billing.database import Database
from billing.errors import ConfigurationError, LedgerMisconfigured, LedgerUnavailable
from tests.kills.proxy import Proxy
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

SECRET = "hunter2"
UNREADABLE = {
    f"{SECRET}": "is not a database URL",
    f"postgresql:/u:{SECRET}@h/n": "is not a database URL",
    f"postgresql://u:{SECRET}@h:port/n": "is not a database URL",
    f"postgresql://u:{SECRET}@h:99999/n": "99999 is no port",
    f"postgresql://u:{SECRET}@{SECRET}@h/n": "Write the one in the password as %40",
    f"mysql://u:{SECRET}@h/n": "names mysql",
    f"postgresql+psycopg2://u:{SECRET}@h/n": "names the driver psycopg2. Begin it with postgresql://",
    f"postgresql+asyncpg://u:{SECRET}@h/n": "names the driver asyncpg",
    f"sqlite+aiosqlite:///{SECRET}": "names the driver aiosqlite",
    f"postgresql://u:{SECRET}@h/n?pool_size=5": "no parameter pool_size",
    f"postgresql://u:{SECRET}@h/n?sslmod=require": "no parameter sslmod",
}


@pytest.mark.parametrize("url", UNREADABLE)
def test_url_that_cannot_be_meant_is_refused_before_anything_is_asked(url: str) -> None:
    """LED-67, fault 88"""
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL") as caught:
        Database(url)
    assert UNREADABLE[url] in caught.value.sentence
    assert SECRET not in caught.value.sentence


@pytest.fixture(scope="module")
def socket(postgres: Postgres) -> Iterator[str]:
    """The folder of the server's socket, whose user `locked` has a password, and which does not let `barred` in."""
    with postgres.fresh() as ledger, psycopg.connect(_plain(ledger), autocommit=True) as connection:
        for name in ("locked", "barred"):
            connection.execute(f"DROP ROLE IF EXISTS {name}".encode())
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'".encode())
        hba = Path(str(connection.execute("SHOW hba_file").fetchone()[0]))  # type: ignore[index]
        before = hba.read_text("utf-8")
        hba.write_text(f"local all locked scram-sha-256\nlocal all barred reject\n{before}", "utf-8")
        connection.execute("SELECT pg_reload_conf()")
        folder = str(ledger.url.query["host"])
        try:
            wait_until(lambda: "refuses" in _reason(f"postgresql://locked:x@/postgres?host={folder}"), "it has read it")
            yield folder
        finally:
            hba.write_text(before, "utf-8")
            connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def port(socket: str) -> Iterator[int]:
    """The same server on a port."""
    proxy = Proxy(f"{socket}/.s.PGSQL.5432")
    yield proxy.port
    proxy.close()


REFUSED = {
    "postgresql://locked:" + SECRET + "x@/postgres?host={socket}": "refuses the password of the user locked",
    "postgresql://locked@/postgres?host={socket}": "refuses the password of the user locked",
    "postgresql://nobody@/postgres?host={socket}": "does not know the user nobody",
    "postgresql://barred:" + SECRET + "@/postgres?host={socket}": "does not let the user barred in",
    "postgresql://postgres@/nowhere?host={socket}": "no database nowhere",
    "postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=require": "does not speak TLS",
    "postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert=/nothing": "TLS",
    "postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=maybe": "makes no sense",
    "postgresql://postgres@127.0.0.1:{port}/postgres?connect_timeout=soon": "makes no sense",
}


@pytest.mark.parametrize("url", REFUSED)
def test_server_that_refuses_is_somebodys_mistake(url: str, socket: str, port: int) -> None:
    """LED-67, fault 88"""
    reason = _reason(url.format(socket=socket, port=port), LedgerMisconfigured)
    assert REFUSED[url] in reason
    assert SECRET not in reason


SILENT = {
    "postgresql://u:" + SECRET + "@no-such-host.invalid/n": "nobody knows the host no-such-host.invalid",
    "postgresql://u:" + SECRET + "@127.0.0.1:1/n": "nobody listens at 127.0.0.1, port 1",
    "postgresql://u:" + SECRET + "@/n?host=/nowhere": "nobody listens at the local socket",
    "postgresql://u:" + SECRET + "@127.0.0.1:{port}/n": "127.0.0.1, port {port}, does not answer in time",
}


@pytest.mark.parametrize("url", SILENT)
def test_server_that_does_not_answer_may_come(url: str) -> None:
    """LED-67, fault 88: so it is waited for, and the reason is the same one line."""
    proxy = Proxy(0)
    proxy.silence()
    reason = _reason(url.format(port=proxy.port), LedgerUnavailable)
    assert SILENT[url].format(port=proxy.port) in reason
    assert SECRET not in reason
    proxy.close()


def _reason(url: str, kind: type[LedgerUnavailable] = LedgerUnavailable) -> str:
    """Why it cannot be read; nothing where it can."""
    database = Database(url)
    try:
        with database.read():
            return ""
    except kind as error:
        return error.for_operator
    finally:
        database.close()


def _plain(database: Database) -> str:
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)
