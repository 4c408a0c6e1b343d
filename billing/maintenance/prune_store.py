"""The ledger's forgetting: every SQL statement about what is too old to be kept."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from billing.models import EventStatus, events

_FINISHED = (EventStatus.DONE, EventStatus.IGNORED, EventStatus.REJECTED)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one piece let go of, and its last row; None when what follows is too young."""

    payloads: int
    rows: int
    last: int | None


def prune_piece(
    connection: sa.Connection, *, after: int, limit: int, payloads_before: datetime, rows_before: datetime
) -> Piece:
    """Look at the next rows by id, which is by age but for clocks, and let go of what is too old in them."""
    piece = sa.select(events.c.id, events.c.received_at).where(events.c.id > after).order_by(events.c.id).limit(limit)
    rows = connection.execute(piece).all()
    old = [row.id for row in rows if row.received_at < max(payloads_before, rows_before)]
    if not old:
        return Piece(0, 0, None)
    these = events.c.id.between(old[0], old[-1])
    gone = sa.delete(events).where(these, events.c.received_at < rows_before, events.c.status.in_(_FINISHED))
    deleted = connection.execute(gone).rowcount
    kept = sa.update(events).where(
        these,
        events.c.received_at < payloads_before,
        events.c.payload.is_not(None),
        events.c.status != EventStatus.PENDING,
    )
    emptied = connection.execute(kept.values(payload=None)).rowcount
    return Piece(payloads=emptied, rows=deleted, last=rows[-1].id if len(rows) == limit else None)
