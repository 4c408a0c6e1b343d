"""Events worked as a worker does, for tests that hand in their own collaborators."""

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.maintenance.reconcile import begin_with_everybody
from billing.models import events
from billing.webhooks.process import Context, work_events
from tests.support.builders import CATALOG


def work_due(*, clock: Clock, stop: Callable[[], bool] = lambda: False, **collaborators: Any) -> None:
    """Work one wake-up: everything that is due, or until `stop`."""
    everybody = partial(begin_with_everybody, clock=clock)
    work_events(Context(**{"catalog": CATALOG, **collaborators}, clock=clock, compare_everybody=everybody), stop=stop)


def outcomes(database: Database) -> list[tuple[str, str, str | None]]:
    """Type, status and customer of every event."""
    with database.read() as connection:
        found = connection.execute(sa.select(events).order_by(events.c.id)).all()
    return [(row.type, row.status, row.customer_id) for row in found]
