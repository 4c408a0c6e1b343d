"""The ledger of upkeep: what is done from time to time, how far it has come, and who is at it.

One row each. Whoever works holds a claim with a lease, renewed by every step that is saved; every change is a
compare-and-set on that claim. So a killed one's work is taken up where it was, and of two only one goes on.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing import lease
from billing.database import insert_new
from billing.models import RunPhase, maintenance_runs


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `upkeep`."""

    id: int
    phase: RunPhase = RunPhase.IDLE
    cursor: str | None = None
    thorough: bool = False
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mark: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    claim: str | None = None
    claimed_until: datetime | None = None
    failures: int = 0
    next_attempt_at: datetime | None = None
    error: str | None = None

    @property
    def unfinished(self) -> bool:
        """Whether a run has begun and not come to its end."""
        return self.phase is not RunPhase.IDLE


_COLUMNS = [maintenance_runs.c[name] for name in Run.__slots__]
_FREE = {**lease.FREE, "failures": 0, "next_attempt_at": None, "error": None}


def read(connection: sa.Connection, row_id: int) -> Run:
    """The row, also where it was never written."""
    row = connection.execute(sa.select(*_COLUMNS).where(maintenance_runs.c.id == row_id)).first()
    return Run(row_id) if row is None else _run(row)


def mark_age_seconds(connection: sa.Connection, now: datetime) -> float:
    """How far behind Stripe's events have been read; 0 before the first time."""
    mark = connection.scalar(sa.select(sa.func.max(maintenance_runs.c.mark)))
    return 0.0 if mark is None else max(0.0, (now - mark).total_seconds())


def claim(connection: sa.Connection, row_id: int, *, token: str, now: datetime) -> Run | None:
    """Take the row unless somebody is at it; None when somebody is."""
    insert_new(connection, maintenance_runs, {"id": row_id, "report": {}})
    own = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row_id, lease.is_free(maintenance_runs.c.claimed_until, now=now)
    )
    row = connection.execute(own.values(lease.taken(token, now=now)).returning(*_COLUMNS)).first()
    return None if row is None else _run(row)


def save(connection: sa.Connection, row: Run, *, now: datetime, **values: Any) -> bool:
    """Change the row and renew the lease; False when the claim is not ours any more."""
    return _change(connection, row, claimed_until=lease.ends_at(now), **values)


def let_go(connection: sa.Connection, row: Run, **values: Any) -> bool:
    """Give the claim back, with whatever else is to be noted."""
    return _change(connection, row, **lease.FREE, **values)


def begin_anew(connection: sa.Connection, row_id: int, **values: Any) -> None:
    """Change the row whoever is at it: their claim is lost with this, and what they save after it."""
    insert_new(connection, maintenance_runs, {"id": row_id, "report": {}})
    connection.execute(sa.update(maintenance_runs).where(maintenance_runs.c.id == row_id).values(**_FREE, **values))


def take_away(connection: sa.Connection, row: Run, **values: Any) -> bool:
    """Like `begin_anew`, but only while the row is still in that phase of that kind of run; whether it was."""
    same = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row.id,
        maintenance_runs.c.phase == row.phase,
        maintenance_runs.c.thorough.is_(row.thorough),
    )
    return connection.execute(same.values(**_FREE, **values)).rowcount == 1


def _change(connection: sa.Connection, row: Run, **values: Any) -> bool:
    mine = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row.id, lease.is_mine(maintenance_runs.c.claim, row.claim)
    )
    return connection.execute(mine.values(**values)).rowcount == 1


def _run(row: sa.Row[Any]) -> Run:
    values = dict(row._mapping)
    return Run(**values | {"phase": RunPhase(values["phase"])})
