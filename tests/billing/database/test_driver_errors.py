"""Each error of the driver has one meaning: what is told, and which connections are used afterwards."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from billing.database import Database, run_in_transaction
from billing.errors import LedgerConflict, LedgerMisconfigured, LedgerUnavailable
from billing.models import lanes
from tests.support.databases import Postgres, sqlite_in
from tests.support.valkey import wait_until

TRANSIENT, WRONG, CONFLICT, BUSY = LedgerUnavailable, LedgerMisconfigured, LedgerConflict, LedgerUnavailable
BUG = sa.exc.DBAPIError
KEPT, DROPPED, EMPTIED = "kept", "dropped", "emptied"
# SQLSTATE: what is raised, and what becomes of the connections.
STATES = {
    "08000": (TRANSIENT, DROPPED),
    "08006": (TRANSIENT, DROPPED),
    "08P01": (TRANSIENT, DROPPED),
    "0A000": (TRANSIENT, DROPPED),
    "22P02": (BUG, KEPT),
    "23505": (BUG, KEPT),
    "25006": (TRANSIENT, EMPTIED),
    "25P03": (TRANSIENT, DROPPED),
    "26000": (TRANSIENT, DROPPED),
    "28000": (WRONG, DROPPED),
    "28P01": (WRONG, DROPPED),
    "3D000": (WRONG, DROPPED),
    "3F000": (WRONG, DROPPED),
    "40001": (CONFLICT, KEPT),
    "40003": (TRANSIENT, DROPPED),
    "40P01": (CONFLICT, KEPT),
    "42501": (WRONG, DROPPED),
    "42601": (BUG, KEPT),
    "42703": (WRONG, DROPPED),
    "42P01": (WRONG, DROPPED),
    "42P05": (TRANSIENT, DROPPED),
    "53000": (TRANSIENT, DROPPED),
    "53100": (TRANSIENT, DROPPED),
    "53200": (TRANSIENT, DROPPED),
    "53300": (TRANSIENT, DROPPED),
    "55000": (TRANSIENT, DROPPED),
    "55P03": (BUSY, KEPT),
    "57014": (TRANSIENT, DROPPED),
    "57P01": (TRANSIENT, EMPTIED),
    "57P02": (TRANSIENT, EMPTIED),
    "57P03": (TRANSIENT, EMPTIED),
    "57P04": (WRONG, DROPPED),
    "58030": (TRANSIENT, DROPPED),
    "XX000": (TRANSIENT, DROPPED),
}


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Database]:
    with postgres.fresh() as database:
        yield database


@pytest.mark.parametrize("state", STATES)
def test_state_of_postgresql_has_one_meaning(ledger: Database, state: str) -> None:
    """LED-62, fault 83"""
    raised, kept = STATES[state]
    with ledger.read() as one, ledger.read() as two:
        before = [pid(one), pid(two)]
    with pytest.raises(raised) as caught, ledger.write() as connection:  # noqa: PT012
        mine = pid(connection)
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE 'secret words' USING ERRCODE = '{state}'; END $$")
    assert type(caught.value) is raised or raised is BUG
    if isinstance(caught.value, LedgerUnavailable):
        assert caught.value.for_operator.startswith("DATABASE_URL: ")
        assert "secret words" not in caught.value.sentence + caught.value.for_operator
    with ledger.read() as one, ledger.read() as two:
        after = [pid(one), pid(two)]
    expected = {KEPT: set(before), DROPPED: set(before) - {mine}, EMPTIED: set()}[kept]
    assert set(before) & set(after) == expected


def test_primary_that_became_read_only_is_left_and_not_asked_again(ledger: Database) -> None:
    """LED-62, fault 82: after a switchover behind one address, the next connection leads to the new primary."""
    with ledger.read() as one, ledger.read() as two:
        before = {pid(one), pid(two)}
    tell_server(ledger, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        wait_until(lambda: refused(ledger), "its sessions notice")
        with pytest.raises(LedgerUnavailable) as caught, ledger.read():
            pass
        assert caught.value.for_operator == "DATABASE_URL: no server there takes writes."
    finally:
        tell_server(ledger, "ALTER SYSTEM RESET default_transaction_read_only")
    wait_until(lambda: not refused(ledger), "the server takes writes again")
    with ledger.read() as one, ledger.read() as two:
        assert not before & {pid(one), pid(two)}


def tell_server(ledger: Database, statement: str) -> None:
    url = ledger.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        connection.execute(statement.encode())
        connection.execute("SELECT pg_reload_conf()")


def refused(ledger: Database) -> bool:
    try:
        with ledger.write() as connection:
            connection.execute(lanes.delete())
    except LedgerUnavailable:
        return True
    return False


def pid(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


# --- SQLite


def move(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def replace(path: Path) -> None:
    move(path)
    path.write_bytes(path.with_suffix(".moved").read_bytes())


def spoil(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def test_file_that_was_moved_or_replaced_is_not_written_any_more(tmp_path: Path) -> None:
    """LED-62, fault 85: SQLite itself would go on writing into it, and nobody would find what was answered 2xx."""
    with sqlite_in(tmp_path) as ledger:
        with ledger.write() as connection:
            connection.execute(lanes.delete())
        path = Path(str(ledger.url.database))
        replace(path)
        with pytest.raises(LedgerUnavailable, match="Try again") as caught, ledger.write():
            pass
        assert caught.value.for_operator == f"DATABASE_URL: {path} was moved or replaced while it was open."
        with ledger.write() as connection:  # the new one
            connection.execute(lanes.delete())
        move(path)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable), ledger.write() as connection:
                connection.execute(lanes.delete())


def test_full_disk_is_transient(tmp_path: Path) -> None:
    """LED-62, fault 85"""
    with sqlite_in(tmp_path) as ledger:

        def fill(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            connection.exec_driver_sql("CREATE TABLE more AS SELECT zeroblob(1000000)")

        with pytest.raises(LedgerUnavailable) as caught:
            run_in_transaction(ledger, fill)
        assert caught.value.for_operator == "DATABASE_URL: the disk is full."


def test_file_that_is_no_ledger_is_somebodys_mistake(tmp_path: Path) -> None:
    """LED-62, fault 85"""
    spoil(tmp_path / "spoilt.sqlite3")
    for name, reason in (
        ("spoilt", "the file is no SQLite database"),
        ("empty", "a table or column is missing: run `onelane db upgrade`"),
    ):
        ledger = Database(f"sqlite:///{tmp_path}/{name}.sqlite3")
        with pytest.raises(LedgerMisconfigured) as caught, ledger.write() as connection:
            connection.execute(lanes.delete())
        assert caught.value.for_operator == f"DATABASE_URL: {reason}."
        ledger.close()


def test_disk_that_became_read_only_is_somebodys_mistake(tmp_path: Path) -> None:
    """LED-62, fault 85: with SQLite's own switch for it, since file rights do not stop root."""
    with sqlite_in(tmp_path) as ledger:
        with pytest.raises(LedgerMisconfigured) as caught, ledger.write() as connection:  # noqa: PT012
            connection.exec_driver_sql("PRAGMA query_only = on")
            connection.execute(lanes.delete())
        assert caught.value.for_operator == "DATABASE_URL: the file is read-only."
        with ledger.write() as connection:
            connection.execute(lanes.delete())


def test_ledger_is_its_owners_only(tmp_path: Path) -> None:
    """LED-68: a new one from its first byte, one of an earlier version from the next `db upgrade`."""
    with sqlite_in(tmp_path) as ledger:
        path = Path(str(ledger.url.database))
        path.chmod(0o644)
        ledger.keep_wal()
        with ledger.write() as connection:
            connection.execute(lanes.delete())
            files = list(tmp_path.glob("ledger.sqlite3*"))
            assert len(files) == 3
            assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    new = Database(f"sqlite:///{tmp_path}/new.sqlite3")
    with new.read():
        assert oct((tmp_path / "new.sqlite3").stat().st_mode & 0o777) == "0o600"
    new.close()
