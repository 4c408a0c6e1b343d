"""PgBouncer between us and PostgreSQL: it works in transaction mode, or is refused in one line."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
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
