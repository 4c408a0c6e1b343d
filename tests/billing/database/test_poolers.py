"""PgBouncer between us and PostgreSQL: it works in transaction mode, or is refused in one line."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations.upgrade import find, upgrade
from billing.database.suitable import require_suitable
from billing.errors import ConfigurationError, LedgerUnavailable
from billing.models import events, lanes
from billing.webhooks import events_store
from billing.webhooks.group_commit import commit
from tests.billing.webhooks.test_group_commit import new_event
from tests.support.databases import Postgres
from tests.support.pgbouncer import pgbouncer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Database]:
    with postgres.fresh() as database:
        yield database


TOLERANT: dict[str, Any] = {"ignore_startup_parameters": "extra_float_digits,options"}


@pytest.mark.parametrize("more", [{}, TOLERANT], ids=["refuses options", "ignores options"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_ledger_behind_pgbouncer_works(ledger: Database, mode: str, more: dict[str, Any]) -> None:
    """LED-65, fault 86: three servers for many clients, whose statements come to another one each time."""
    size = 3 if mode == "transaction" else 20
    with pgbouncer(ledger.url, pool_mode=mode, default_pool_size=size, **more) as url:
        pooled = Database(url.render_as_string(hide_password=False))

        def use(number: int) -> None:
            for turn in range(10):
                new = [new_event(id=f"evt_{number}_{turn}_{part}") for part in range(turn + 1)]
                assert [one for one in commit(pooled, new) if not isinstance(one, tuple)] == []
                with pooled.write() as connection:
                    connection.execute(lanes.delete())
                    connection.execute(sa.select(lanes.c.id)).all()
                with pooled.read() as connection:
                    connection.execute(sa.select(events.c.id).where(events.c.event_id == f"evt_{number}")).all()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(use, range(8)))
        with pooled.read() as connection:
            assert events_store.count_pending(connection) == 8 * 55
        pooled.close()


def test_migrations_and_the_check_at_the_start_pass(ledger: Database) -> None:
    """LED-65"""
    with pgbouncer(ledger.url, pool_mode="transaction", default_pool_size=1) as url:
        pooled = Database(url.render_as_string(hide_password=False))
        upgrade(pooled)
        require_suitable(pooled)
        assert find(pooled).fit.works
        pooled.close()


REFUSED = {
    "statements only": ({"pool_mode": "statement"}, "allows no transactions"),
    "sessions, and too few": ({"pool_mode": "session", "default_pool_size": 2}, "2 of its 5 connections"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_pooler_that_cannot_serve_us_is_refused_at_the_start(ledger: Database, which: str) -> None:
    """LED-65, fault 86: in one line that says what to set."""
    settings, reason = REFUSED[which]
    with pgbouncer(ledger.url, **settings) as url:
        pooled = Database(url.render_as_string(hide_password=False), pool_size=5)
        with pytest.raises(ConfigurationError, match=reason) as caught:
            require_suitable(pooled)
        assert "pool_mode = transaction" in caught.value.sentence
        pooled.close()


def test_statement_that_gets_no_place_ends(ledger: Database) -> None:
    """LED-60, fault 86: PgBouncer itself lets it wait for two minutes."""
    with pgbouncer(ledger.url, pool_mode="transaction", default_pool_size=1) as url:
        pooled = Database(url.render_as_string(hide_password=False))
        with pooled.write() as connection:
            connection.execute(lanes.delete())
            with pytest.raises(LedgerUnavailable), pooled.read() as other:
                other.execute(sa.select(lanes.c.id))
        pooled.close()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("DateStyle = 'German'", "DateStyle = 'ISO'"),
        ("search_path = ''", "search_path = 'public'"),
        ("synchronous_commit = 'off'", "synchronous_commit = 'on'"),
    ],
)
def test_session_that_a_pooler_does_not_let_us_set_is_refused(ledger: Database, setting: str, reason: str) -> None:
    """LED-66: directly it is set by ourselves."""
    with ledger.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {ledger.url.database} SET {setting}")
    ledger.close()
    require_suitable(ledger)
    with pgbouncer(ledger.url, pool_mode="transaction") as url:
        pooled = Database(url.render_as_string(hide_password=False))
        with pytest.raises(ConfigurationError, match=reason):
            require_suitable(pooled)
        pooled.close()
    with ledger.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {ledger.url.database} RESET ALL")
