"""Examinations: what `onelane doctor` says, asked for in the console and answered by a worker, which has Stripe's key.

Nothing is tried at Stripe, only read: no payment page is opened. The newest answer is shown until there is a newer one.
What a process was given as settings is its own: the web says what it sees of them itself.
"""

from dataclasses import asdict
from datetime import timedelta

import sqlalchemy as sa
import structlog

from billing.clock import Clock
from billing.database import Database
from billing.doctor.examine import examine
from billing.doctor.prices import compare_prices
from billing.errors import OnelaneError
from billing.models import examinations
from billing.operators.listing import Row, rows_of
from billing.services import Services
from billing.stripe_gateway import GatewayClient

log = structlog.get_logger(__name__)

# Who asks twice within this time is given the answer that is on its way.
ON_ITS_WAY = timedelta(minutes=1)
KEPT = 20


def ask(*, database: Database, clock: Clock) -> int:
    """Note that a worker is asked; the row of its job. Raises LedgerUnavailable."""
    now = clock.now()
    unanswered = (examinations.c.finished_at.is_(None), examinations.c.asked_at > now - ON_ITS_WAY)
    with database.write() as connection:
        row_id = connection.scalar(sa.select(sa.func.max(examinations.c.id)).where(*unanswered))
        if row_id is None:
            insert = sa.insert(examinations).values(asked_at=now).returning(examinations.c.id)
            row_id = connection.execute(insert).scalar_one()
    return int(row_id)


def answer(row_id: int, services: Services) -> None:
    """Look, and write down what was found. Does nothing where a worker has begun already."""
    own = sa.update(examinations).where(examinations.c.id == row_id)
    untaken = own.where(examinations.c.started_at.is_(None))
    with services.database.write() as connection:
        if not connection.execute(untaken.values(started_at=services.clock.now())).rowcount:
            return
    stripe = services.stripe if isinstance(services.stripe, GatewayClient) else None
    findings = examine(services.settings, stripe=stripe, tries=False, clock=services.clock)
    found = [asdict(finding) for finding in findings if finding.subject != "settings"]
    try:
        prices = compare_prices(services.catalog, stripe) if stripe else []
    except OnelaneError as error:  # a finding has said so
        log.warning("examination.without_prices", error=error.code)
        prices = []
    values = {"findings": found, "prices": prices, "finished_at": services.clock.now()}
    with services.database.write() as connection:
        connection.execute(own.values(values))
        # Here: the web's role deletes nothing.
        connection.execute(sa.delete(examinations).where(examinations.c.id <= row_id - KEPT))


def newest(*, database: Database) -> tuple[Row | None, Row | None]:
    """The newest examination that was answered, and one that was asked for since and is not yet."""
    query = sa.select(examinations).order_by(examinations.c.id.desc()).limit(KEPT)
    with database.read() as connection:
        rows = rows_of(connection, query)
    answered = next((row for row in rows if row["finished_at"]), None)
    waiting = rows[0] if rows and rows[0] is not answered else None
    return answered, waiting
