"""The ledger's tables and their states, gathered from this folder: others import from here.

Whoever adds a table adds it here too, for the migrations see only what is gathered. They create the schema;
`tests/billing/test_migrations.py` holds both together.
"""

from billing.models.columns import Json, UtcTime, metadata
from billing.models.incident import RemedyState, incidents, remedies
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
from billing.models.projection import outbox, product_trials, projections, subscriptions
from billing.models.webhook import (
    EventSource,
    EventStatus,
    ReplayState,
    UpkeepPhase,
    events,
    installation,
    replayed_events,
    replays,
    upkeep,
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
    "UpkeepPhase",
    "UtcTime",
    "attempts",
    "checkouts",
    "customers",
    "events",
    "incidents",
    "installation",
    "lanes",
    "metadata",
    "operations",
    "outbox",
    "product_trials",
    "projections",
    "remedies",
    "replayed_events",
    "replays",
    "subscriptions",
    "upkeep",
]
