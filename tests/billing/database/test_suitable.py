"""What a database has to be: said in one line where it is not, and set by ourselves where that can be."""

from collections.abc import Iterator

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import pool

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.database.suitable import require_suitable
from billing.doctor.servers import examine_ledger
from billing.errors import ConfigurationError
from billing.models import customers, events
from billing.process.settings import load_settings
from billing.webhooks import events_store
from tests.billing.webhooks.test_group_commit import new_event
from tests.support.builders import NOON
from tests.support.databases import Postgres


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Database]:
    with postgres.fresh() as database:
        yield database


ODD = (
    "SET client_encoding = 'LATIN1'",
    "SET DateStyle = 'German'",
    "SET default_transaction_isolation = 'serializable'",
    "SET search_path = 'elsewhere'",
    "SET statement_timeout = 0",
    "SET TimeZone = 'Asia/Kathmandu'",
    "SET synchronous_commit = 'off'",
    "SET bytea_output = 'escape'",
    "SET standard_conforming_strings = 'off'",
)


@pytest.mark.parametrize("odd", ODD)
def test_default_of_the_database_changes_nothing(ledger: Database, odd: str) -> None:
    """LED-66, fault 87: a session sets what it assumes."""
    name = ledger.url.database
    with ledger.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} {odd}")
    ledger.close()
    require_suitable(ledger)
    payload = bytes(range(256))
    row = {"user_id": "žluťoučký 😀", "idempotency_key": "k", "parameters": {"é": 1}, "created_at": NOON}
    try:
        with ledger.write() as connection:
            connection.execute(customers.insert().values(row))
            events_store.record_all(connection, [msgspec.structs.replace(new_event(), payload=payload)])
            assert connection.scalar(sa.text("SHOW transaction_isolation")) == "read committed"
        with ledger.read() as connection:
            found = connection.execute(sa.select(customers)).one()
            assert (found.user_id, found.created_at, found.parameters) == (row["user_id"], NOON, {"é": 1})
            assert connection.scalar(sa.select(events.c.payload)) == payload
            assert connection.scalar(sa.text("SHOW statement_timeout")) == "10s"
            assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
    finally:
        with ledger.write() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} RESET ALL")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_that_is_not_utf8_is_refused(ledger: Database, encoding: str) -> None:
    """LED-66, fault 87: by `db upgrade`, at every start, and by doctor."""
    admin = sa.create_engine(ledger.url, isolation_level="AUTOCOMMIT", poolclass=pool.NullPool)
    name = f"odd_{encoding.lower()}"
    with admin.connect() as connection:
        locale = "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
        connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING '{encoding}' {locale}")
    url = ledger.url.set(database=name).render_as_string(hide_password=False)
    odd = Database(url)
    try:
        for refuse in (upgrade, require_suitable):
            with pytest.raises(ConfigurationError, match=f"the database {name} is {encoding}"):
                refuse(odd)
        with pytest.raises(ConfigurationError):
            list(examine_ledger(load_settings(database_url=url, _env_file=None)))
    finally:
        odd.close()
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.mark.parametrize(("size", "verdict"), [(10, "ok"), (20, "ok"), (25, "wrong"), (1000, "wrong")])
def test_doctor_adds_up_the_connections(ledger: Database, size: int, verdict: str) -> None:
    """LED-63: of the four processes of the compose file, against PostgreSQL's own 100."""
    url = ledger.url.render_as_string(hide_password=False)
    settings = load_settings(database_url=url, database_pool_size=size, _env_file=None)
    found = [one for one in examine_ledger(settings) if "connections" in one.sentence]
    assert [one.verdict.value for one in found] == [verdict]
    assert f"{4 * size:,} connections" in found[0].sentence or verdict == "ok"


def test_limit_of_the_role_counts_too(ledger: Database) -> None:
    """LED-63"""
    with ledger.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {ledger.url.database} CONNECTION LIMIT 20")
    url = ledger.url.render_as_string(hide_password=False)
    settings = load_settings(database_url=url, _env_file=None)
    [found] = [one for one in examine_ledger(settings) if one.verdict == "wrong"]
    assert "room for 20" in found.sentence
    assert "DATABASE_POOL_SIZE=5" in found.sentence
    with ledger.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {ledger.url.database} CONNECTION LIMIT -1")
