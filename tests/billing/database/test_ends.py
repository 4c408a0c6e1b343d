"""No statement without an end: a database host that died without a word, a frozen server, a server that is slow."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

from app import webhooks
from app.health import readiness
from billing.database import Database, postgres, watch
from billing.errors import LedgerUnavailable
from billing.models import lanes
from billing.webhooks import group_commit
from billing.webhooks.group_commit import GroupCommit
from tests.billing.webhooks.test_group_commit import new_event
from tests.kills.proxy import Proxy
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

HANGS = 60  # seconds after which a test says that something has no end
pytestmark = pytest.mark.timeout(HANGS)


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Database]:
    with postgres.fresh() as database:
        yield database


@pytest.fixture
def proxy(ledger: Database) -> Iterator[Proxy]:
    proxy = Proxy(f"{ledger.url.query['host']}/.s.PGSQL.5432")
    yield proxy
    proxy.close()


@pytest.fixture
def far(ledger: Database, proxy: Proxy) -> Iterator[Database]:
    """The same ledger, on a host that can die."""
    database = Database(over(proxy, ledger), pool_size=3)
    yield database
    database.close()


def over(proxy: Proxy, ledger: Database) -> str:
    """The ledger's URL by way of the proxy."""
    url = ledger.url.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
    return url.render_as_string(hide_password=False)


def read(database: Database) -> None:
    with database.read() as connection:
        connection.execute(sa.select(lanes.c.id)).all()


def write(database: Database) -> None:
    with database.write() as connection:
        connection.execute(lanes.delete())


def write_at_once(database: Database) -> None:
    with database.autocommit() as connection:
        connection.execute(lanes.delete())


@pytest.mark.parametrize("use", [read, write, write_at_once])
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "in use"])
def test_host_that_dies_without_a_word_is_given_up_and_found_again(
    far: Database, proxy: Proxy, use: Callable[[Database], None], idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-60, fault 81: whether the connection was just used or not; and the next one leads to the new host."""
    monkeypatch.setattr(postgres, "TRANSACTION_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "IDLE_SECONDS", 0.0 if idle else HANGS)
    use(far)
    proxy.silence()
    with pytest.raises(LedgerUnavailable):
        use(far)
    proxy.speak()
    use(far)


def test_host_that_dies_while_all_connections_are_in_use_takes_none_of_them_away(
    far: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-60, fault 81: each has its end, and the pool is whole afterwards."""
    monkeypatch.setattr(postgres, "TRANSACTION_SECONDS", 1.0)
    gate = threading.Barrier(4)

    def hold(_: int) -> None:
        with far.write() as connection:
            gate.wait(HANGS)
            gate.wait(HANGS)
            connection.execute(lanes.delete())

    with ThreadPoolExecutor(3) as threads:
        held = [threads.submit(hold, number) for number in range(3)]
        gate.wait(HANGS)
        proxy.silence()
        gate.wait(HANGS)
        assert all(isinstance(one.exception(HANGS), LedgerUnavailable) for one in held)
        proxy.speak()
        list(threads.map(lambda _: write(far), range(9)))


def test_committing_thread_gives_up_and_goes_on_with_the_next(
    far: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-61, fault 81"""
    monkeypatch.setattr(group_commit, "COMMIT_SECONDS", 1.0)
    group = GroupCommit(far, lambda batch: None)
    try:
        assert group.submit(new_event()).result(HANGS)
        proxy.silence()
        with pytest.raises(LedgerUnavailable):
            group.submit(new_event()).result(HANGS)
        proxy.speak()
        assert group.submit(new_event()).result(HANGS)
    finally:
        group.close()


def test_times_are_those_that_are_promised() -> None:
    """LED-60, LED-61, API-51: a delivery is answered within 3 s and readiness within 2, whatever the ledger does."""
    assert (postgres.CONNECT_SECONDS, postgres.TRANSACTION_SECONDS) == (3, 10)
    assert group_commit.COMMIT_SECONDS <= 2 < webhooks.WAIT_SECONDS < 3
    assert readiness.CHECK_SECONDS < 2


def test_connection_is_hung_up_on_when_its_time_is_over_and_not_before(ledger: Database) -> None:
    """LED-60, by a clock that the test moves: a statement without an end has ended when its time has."""
    now = 1000.0
    watched = watch.Watch(lambda: now)
    connection = psycopg.connect(ledger.url.set(drivername="postgresql").render_as_string(hide_password=False))
    watched.allow(connection, 10)
    now += 9.9
    watched.look()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(connection.execute, "SELECT pg_sleep(3600)")
        wait_until(lambda: connection.pgconn.transaction_status == TransactionStatus.ACTIVE, "it is asked")
        now += 0.1
        watched.look()
        assert isinstance(asked.exception(HANGS), psycopg.OperationalError)
    connection.close()


def test_statement_that_takes_too_long_is_ended_at_the_server(ledger: Database) -> None:
    """LED-60: and not only forgotten by us."""
    with ledger.read() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == f"{postgres.TRANSACTION_SECONDS:.0f}s"
    with pytest.raises(LedgerUnavailable) as caught, ledger.write() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 10; SELECT pg_sleep(60)")
    assert caught.value.for_operator == "DATABASE_URL: the statement took too long."


def test_migration_takes_as_long_as_it_takes(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """LED-60: what is allowed to."""
    monkeypatch.setattr(postgres, "TRANSACTION_SECONDS", 0.5)
    with ledger.write() as connection:
        ledger.allow(connection, None)
        connection.exec_driver_sql("SELECT pg_sleep(1)")


def test_url_has_the_last_word(ledger: Database) -> None:
    """LED-60"""
    url = ledger.url.update_query_dict({"connect_timeout": "7", "options": "-c statement_timeout=1234"})
    given = Database(url.render_as_string(hide_password=False))
    with given.read() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "1234ms"
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    given.close()
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("7", "5")
    assert (parameters["tcp_user_timeout"], parameters["target_session_attrs"]) == ("5000", "read-write")


# --- given back


def test_burst_gives_its_connections_back_and_keeps_the_one_that_is_used(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-63, fault 84"""
    monkeypatch.setattr(watch, "IDLE_SECONDS", 1.0)
    gate = threading.Barrier(5)

    def hold(_: int) -> None:
        with ledger.read():
            gate.wait(HANGS)

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(hold, range(5)))
    assert ours(ledger) >= 5
    mine: set[object] = set()

    def used_one_is_left() -> bool:
        mine.add(ours(ledger, "pg_backend_pid()"))
        return ours(ledger) == 1

    wait_until(used_one_is_left, "the others are closed", HANGS)
    assert len(mine) == 1, "the connection that is used is the same all the time"


def ours(database: Database, what: str = "count(*)") -> int:
    """Of the connections to this database, those of the pool."""
    query = f"SELECT {what} FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'onelane'"
    with database.read() as connection:
        return int(connection.scalar(sa.text(query)) or 0)
