"""The ledger's tables and their states; other packages import them from here.

A new table must be added here, too: migrations see only these. `tests/billing/database/test_migrations.py` compares
the migrated schema with these tables.
"""

from billing.models.audit import audit
from billing.models.columns import Json, UtcTime, metadata
from billing.models.console import console_sessions
from billing.models.examination import examinations
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
from billing.models.minute import minute_counts
from billing.models.process import marks, processes
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

__all__ = [
    "AttemptOutcome",
    "CheckoutStatus",
    "EventSource",
    "EventStatus",
    "Json",
    "LaneState",
    "OperationStatus",
    "RemedyState",
    "ReplayState",
    "RunPhase",
    "UtcTime",
    "attempts",
    "audit",
    "checkouts",
    "console_sessions",
    "customers",
    "events",
    "examinations",
    "incidents",
    "installation",
    "lanes",
    "maintenance_runs",
    "marks",
    "metadata",
    "minute_counts",
    "operations",
    "outbox",
    "processes",
    "product_trials",
    "projections",
    "remedies",
    "repayments",
    "replayed_events",
    "replays",
    "subscriptions",
]
