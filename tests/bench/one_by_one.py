"""The usual worker: one task for each event, the same fetch, one transaction. For comparison only.

The same Celery settings, threads, gateway and database as ours; it keeps what it fetched in the same table and closes
its event. It has no claim, no generation and no outbox, so that each of its tasks does less than one of ours.
"""

import sys
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from billing.catalog import Catalog
from billing.coordination.jobs import RowJob
from billing.models import EventStatus, events
from billing.process.logs import configure_logging
from billing.process.settings import load_settings
from billing.services import Services, build_services
from billing.subscriptions import projection_store
from billing.subscriptions.projection import project
from worker.app import create_celery
from worker.consumer import consume
from worker.task_base import JobTask


@dataclass(frozen=True, slots=True)
class HandleEvent(RowJob):
    """One event; its kind is one that the worker knows."""

    kind = "duplicates.remedy"


def handle_event(job: HandleEvent, services: Services) -> None:
    """Fetch the customer's subscriptions, write them, close the event."""
    with services.database.read() as connection:
        customer_id = connection.scalar(sa.select(events.c.customer_id).where(events.c.id == job.row_id))
    assert services.stripe is not None
    fetched = services.stripe.list_subscriptions(str(customer_id))
    now = datetime.now(UTC)
    with services.database.write() as connection:
        before = projection_store.read_subscriptions(connection, str(customer_id))
        after = [_row(one, str(customer_id), services.catalog, now) for one in fetched]
        projection_store.replace_subscriptions(connection, before, after)
        done = sa.update(events).where(events.c.id == job.row_id)
        connection.execute(done.values(status=EventStatus.DONE, finished_at=now))


def _row(subscription: dict[str, Any], customer_id: str, catalog: Catalog, now: datetime) -> Any:
    return project(subscription, customer_id=customer_id, catalog=catalog, schedule=None, before=None, now=now)


if __name__ == "__main__":
    settings = load_settings()
    configure_logging(settings, process="one-by-one")
    services = build_services(settings)
    celery = create_celery(settings, services=lambda: services)
    warnings.simplefilter("ignore")  # about registering a name anew, and about root
    celery.register_task(JobTask(HandleEvent, handle_event, lambda: services))
    sys.exit(consume(celery, queues=[HandleEvent.queue], concurrency=int(sys.argv[1]), name="one-by-one"))
