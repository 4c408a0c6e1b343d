"""`onelane incidents resolve`: a person says that they have finished what an incident asked of them."""

import sqlalchemy as sa
import structlog

from billing.clock import Clock
from billing.database import Database
from billing.errors import NotFound
from billing.models import RemedyState, incidents, remedies
from billing.subscriptions.troubles import DUPLICATE

log = structlog.get_logger(__name__)


def resolve_incident(incident_id: int, *, reason: str, database: Database, clock: Clock) -> None:
    """Resolve an open incident, and end what its remedies could not give back by themselves (SUB-116).

    What still is so at the next sync is an incident again. Raises NotFound when there is no such open incident.
    """
    now = clock.now()
    own = sa.update(incidents).where(incidents.c.id == incident_id, incidents.c.resolved_at.is_(None))
    with database.write() as connection:
        columns = (incidents.c.customer_id, incidents.c.product, incidents.c.kind)
        row = connection.execute(own.values(resolved_at=now, reason=reason).returning(*columns)).first()
        if row is None:
            raise NotFound("open incident")
        theirs = sa.update(remedies).where(
            remedies.c.customer_id == row.customer_id,
            remedies.c.product == row.product,
            remedies.c.state == RemedyState.CANCELED,
        )
        if row.kind == DUPLICATE:
            connection.execute(theirs.values(state=RemedyState.BY_PERSON, finished_at=now))
    log.warning("incident.resolved", incident_id=incident_id, reason=reason)
