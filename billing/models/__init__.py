"""The ledger's tables and their states; other packages import them from here.

A new table must be added here, too: migrations see only these. `tests/billing/database/test_migrations.py` compares
the migrated schema with these tables.
"""

from billing.models.columns import Json, UtcTime, metadata
from billing.models.incident import RemedyState, incidents, remedies, repayments
from billing.models.lane import (
    AttemptOutcome,
    CheckoutStatus,
    LaneState,
    OperationStatus,
    attempts,
    checkouts,
    customers,
    lanes,
    operations,
)
from billing.models.operators import audit, console_sessions, examinations, marks, minute_counts, processes
from billing.models.projection import outbox, product_trials, projections, subscriptions
from billing.models.webhook import (
    EventSource,
    EventStatus,
    ReplayState,
    RunPhase,
    events,
    installation,
    maintenance_runs,
    replayed_events,
    replays,
)
