"""Maintenance runs: the progress of reconciling and of pruning, one row each.

The process that works on a run holds a claim with a lease, which each saved step renews. Every change is a
compare-and-set on that claim. So another process continues after a kill, and of two at once only one does.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.models import RunPhase, maintenance_runs
from billing.rules import lease

RECONCILE_ROW, PRUNE_ROW = 1, 2


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `maintenance_runs`."""

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
        """Whether the run has begun and not ended."""
        return self.phase is not RunPhase.IDLE


_COLUMNS = [maintenance_runs.c[name] for name in Run.__slots__]
_FREE = {**lease.FREE, "failures": 0, "next_attempt_at": None, "error": None}


def read(connection: sa.Connection, row_id: int) -> Run:
    """The row; an empty one where none was written yet."""
    row = connection.execute(sa.select(*_COLUMNS).where(maintenance_runs.c.id == row_id)).first()
    return Run(row_id) if row is None else _run(row)


def mark_age_seconds(connection: sa.Connection, now: datetime) -> float:
    """How many seconds ago the newest event that reconciling has read was made; 0 before the first run."""
    mark = connection.scalar(sa.select(sa.func.max(maintenance_runs.c.mark)))
    return 0.0 if mark is None else max(0.0, (now - mark).total_seconds())


def claim(connection: sa.Connection, row_id: int, *, token: str, now: datetime) -> Run | None:
    """Claim the row; None while another process holds it."""
    insert_new(connection, maintenance_runs, {"id": row_id, "report": {}})
    own = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row_id, lease.is_free(maintenance_runs.c.claimed_until, now=now)
    )
    row = connection.execute(own.values(lease.taken(token, now=now)).returning(*_COLUMNS)).first()
    return None if row is None else _run(row)


def save(connection: sa.Connection, row: Run, *, now: datetime, **values: Any) -> bool:
    """Change the row and renew the lease; False when the claim is lost."""
    return _change(connection, row, claimed_until=lease.ends_at(now), **values)


def let_go(connection: sa.Connection, row: Run, **values: Any) -> bool:
    """Release the claim, and change `values` with it."""
    return _change(connection, row, **lease.FREE, **values)


def begin_anew(connection: sa.Connection, row_id: int, **values: Any) -> None:
    """Change the row whichever process holds it; that process's later saves fail."""
    insert_new(connection, maintenance_runs, {"id": row_id, "report": {}})
    connection.execute(sa.update(maintenance_runs).where(maintenance_runs.c.id == row_id).values(**_FREE, **values))


def take_away(connection: sa.Connection, row: Run, **values: Any) -> bool:
    """Like `begin_anew`, but only while the phase and `thorough` are as read; whether they were."""
    same = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row.id,
        maintenance_runs.c.phase == row.phase,
        maintenance_runs.c.thorough.is_(row.thorough),
    )
    return connection.execute(same.values(**_FREE, **values)).rowcount == 1


def make_due(connection: sa.Connection, row_id: int) -> None:
    """Let the next look begin a run, unless one is under way."""
    own = sa.update(maintenance_runs).where(maintenance_runs.c.id == row_id)
    connection.execute(
        own.where(maintenance_runs.c.phase == RunPhase.IDLE).values(finished_at=None, next_attempt_at=None)
    )


def _change(connection: sa.Connection, row: Run, **values: Any) -> bool:
    same = sa.update(maintenance_runs).where(
        maintenance_runs.c.id == row.id, lease.is_mine(maintenance_runs.c.claim, row.claim)
    )
    return connection.execute(same.values(**values)).rowcount == 1


def _run(row: sa.Row[Any]) -> Run:
    values = dict(row._mapping)
    return Run(**values | {"phase": RunPhase(values["phase"])})
