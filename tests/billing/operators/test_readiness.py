"""Readiness of the ledger: it has to take writes."""

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import customers
from billing.operators.readiness import examine_ledger


def test_ledger_that_takes_writes_is_ready_and_nothing_is_left_in_it(database: Database) -> None:
    """LED-64"""
    assert examine_ledger(database) == {"database": "ok", "migrations": "ok"}
    with database.read() as connection:
        assert connection.execute(customers.select()).all() == []


def test_ledger_that_answers_and_takes_no_writes_is_not_ready(database: Database) -> None:
    """LED-64, fault 82: a standby, or a disk that became read-only."""
    url = database.url
    if not database.is_sqlite:  # any: as a connection that was made before the switchover
        query = {"target_session_attrs": "any", "options": "-c default_transaction_read_only=on"}
        url = url.update_query_dict(query)
    standby = Database(url.render_as_string(hide_password=False))
    if database.is_sqlite:
        sa.event.listen(standby.engine, "connect", lambda one, _: one.execute("PRAGMA query_only = on"))
    with standby.read() as connection:
        connection.execute(customers.select())
    assert examine_ledger(standby)["database"] != "ok"
    standby.close()


@pytest.mark.parametrize("lacking", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
def test_ledger_without_this_versions_tables_is_not_ready(database: Database, lacking: str) -> None:
    """LED-64"""
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT * FROM alembic_version")
        connection.exec_driver_sql(lacking)
    assert examine_ledger(database) == {"database": "ok", "migrations": "not current: run `onelane db upgrade`"}
