"""Two transactions in each other's way on PostgreSQL: the one that is undone is done again, and not for ever."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from billing.database import Database, run_in_transaction
from billing.database import engine as module
from billing.errors import LedgerConflict, LedgerUnavailable
from billing.models import events
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.group_commit import commit
from tests.kills.asking import in_background
from tests.support.builders import NOON, build_event
from tests.support.databases import Postgres
from tests.support.valkey import wait_until


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with postgres.fresh() as ledger:
        yield ledger


def test_deliveries_that_were_undone_to_end_a_deadlock_are_recorded(database: Database, undone: list[str]) -> None:
    """OPS-52, fault 27: another transaction has inserted the second of them, and now wants the first."""
    first, second = (event(id=f"evt_{name}") for name in "ab")
    with other(database) as connection:
        events_store.record_all(connection, [second])
        recording = in_background(lambda: commit(database, [first, second]))
        wait_until(lambda: waiting(database) == 1, "ours waits for theirs")
        events_store.record_all(connection, [first])  # only once ours was undone
        connection.rollback()
    assert [row is not None and not isinstance(row, Exception) for row in recording()] == [True, True]
    assert undone == ["40P01"]
    with database.read() as connection:
        assert sorted(connection.scalars(sa.select(events.c.event_id))) == ["evt_a", "evt_b"]


def test_default_of_the_database_does_not_change_what_a_transaction_sees(
    database: Database, undone: list[str], work: Callable[[int], None]
) -> None:
    """OPS-52, fault 27: where the server's default is REPEATABLE READ, and somebody changes the row meanwhile."""
    with database.write() as connection:
        connection.exec_driver_sql(
            f"ALTER DATABASE {database.url.database} SET default_transaction_isolation = 'repeatable read'"
        )
        [recorded] = events_store.record_all(connection, [event()])
    assert recorded
    database.close()  # the next connections have the new default
    with other(database) as connection:
        connection.execute(sa.update(events).values(error="somebody was here"))
        working = in_background(lambda: work(recorded[0]))
        wait_until(lambda: waiting(database) == 1, "ours waits for theirs")
        connection.commit()
    working()
    assert undone == [], "READ COMMITTED, so that it saw what was changed meanwhile"
    with database.read() as connection:
        assert connection.scalar(sa.select(events.c.status)) == "done"


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_what_is_undone_every_time_ends_as_a_ledger_that_is_not_available(database: Database, sqlstate: str) -> None:
    """OPS-52, fault 27."""
    tries = []

    def work(connection: sa.Connection) -> None:
        tries.append(time.monotonic())
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE 'in the way' USING ERRCODE = '{sqlstate}'; END $$")

    with pytest.raises(LedgerUnavailable):
        run_in_transaction(database, work)
    assert len(tries) == module.TRIES
    assert issubclass(LedgerConflict, LedgerUnavailable), "a 503 to Stripe and to buyers"


@pytest.fixture
def undone(database: Database) -> Iterator[list[str]]:
    """The SQLSTATEs with which PostgreSQL undid transactions."""
    found: list[str] = []

    def note(context: sa.engine.ExceptionContext) -> None:
        found.append(str(getattr(context.original_exception, "sqlstate", None)))

    sa.event.listen(database.engine, "handle_error", note)
    yield found
    sa.event.remove(database.engine, "handle_error", note)


def event(**instead: str) -> NewEvent:
    return read_event(json.dumps(build_event(**instead)).encode(), now=NOON)


@contextmanager
def other(database: Database) -> Iterator[sa.Connection]:
    """A transaction of somebody else's, which is never the one to be undone."""
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET deadlock_timeout = '1min'")
        yield connection
    engine.dispose()


def waiting(database: Database) -> int:
    """How many wait for another one's lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.read() as connection:
        return int(connection.scalar(sa.text(query)) or 0)
