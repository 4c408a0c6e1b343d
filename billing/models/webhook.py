"""The Stripe account of this ledger, its events as they came, replays, and maintenance runs."""

from enum import StrEnum

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, partial_index, time_column


class EventStatus(StrEnum):
    """pending -> done | ignored | dead; rejected from the start (wrong mode or account)."""

    PENDING = "pending"
    DONE = "done"
    IGNORED = "ignored"
    REJECTED = "rejected"
    DEAD = "dead"


class EventSource(StrEnum):
    """How an event reached the ledger."""

    DELIVERED = "delivered"
    RECONCILED = "reconciled"  # read from Stripe's list: its delivery never came, or comes later as a duplicate


class ReplayState(StrEnum):
    """running -> finished | stopped; a replay that was killed stays running until another one takes its place."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"


class RunPhase(StrEnum):
    """The phase of a maintenance run; those of reconciling in their order, and one of pruning."""

    IDLE = "idle"
    STRAYS = "strays"  # orphaned sessions
    EVENTS = "events"
    OBJECTS = "objects"
    CUSTOMERS = "customers"
    PRUNING = "pruning"


# One row: the Stripe account and mode this ledger belongs to.
installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stripe_account", ShortText, nullable=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    time_column("bound_at", nullable=False),
)

# What Stripe delivered, as the bytes that came.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("account", ShortText, nullable=False, server_default=""),  # '' is our own: NULLs are never equal
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("event_id", ShortText, nullable=False),
    sa.Column("type", ShortText, nullable=False),
    sa.Column("customer_id", ShortText),  # a hint from the payload
    sa.Column("object_id", ShortText),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claim", sa.String(36)),  # the worker that holds it, until claimed_until
    time_column("claimed_until"),
    time_column("next_attempt_at", nullable=False),
    time_column("created_at", nullable=False),  # Stripe's, one-second resolution: never used for ordering
    time_column("received_at", nullable=False),
    time_column("finished_at"),
    sa.Column("error", sa.Text),
    sa.Column("seconds", sa.Float),  # how long the last attempt took
    sa.Column("history", Json),  # the last failed attempts: when, how long, why; NULL where none failed
    sa.Column("payload", sa.LargeBinary),  # NULL once pruned
    sa.Column("source", sa.String(20), nullable=False, server_default=EventSource.DELIVERED.value),
    sa.UniqueConstraint("account", "livemode", "event_id"),
    sa.Index("ix_events_status_next_attempt_at", "status", "next_attempt_at"),
    sa.Index("ix_events_customer_id_status", "customer_id", "status"),
    sa.Index("ix_events_type", "type"),
    # for who looks for an object's events: not of those that wait, so that an INSERT adds nothing to it
    partial_index("ix_events_object_id", "object_id", where="status <> 'pending'"),
    # only what a worker holds: a few hundred rows, none of which an INSERT or a finished event adds to
    partial_index("ix_events_customer_id_claimed_until", "customer_id", "claimed_until", where="claim IS NOT NULL"),
)

# One row for each time that an operator had events worked again.
replays = sa.Table(
    "replays",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("filter", Json, nullable=False),  # as given on the command line
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("counted", sa.Integer, nullable=False),  # how many matched before it began
    sa.Column("replayed", sa.Integer, nullable=False, server_default="0"),  # how many it has set back
    time_column("started_at", nullable=False),
    time_column("alive_until", nullable=False),  # a replay that still runs after this has lost its process
    time_column("finished_at"),
    sa.Column("newest_id", BigId),  # workers run it, up to this row; NULL: a command does
    sa.Column("cursor", BigId, nullable=False, server_default="0"),  # the last row that workers have set back
    # one at a time: no event is set back by two operators at once
    partial_index("uq_replays_running", "state", where="state = 'running'", unique=True),
)

# Which events a replay set back, and what they were before.
replayed_events = sa.Table(
    "replayed_events",
    metadata,
    sa.Column("event_row_id", BigId, sa.ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("replay_id", BigId, sa.ForeignKey("replays.id"), primary_key=True),
    sa.Column("was_status", sa.String(20), nullable=False),
    sa.Column("was_error", sa.Text),
    time_column("replayed_at", nullable=False),
)

# Maintenance runs, one row each (`maintenance.runs`): progress and claim. The table keeps its first name.
maintenance_runs = sa.Table(
    "upkeep",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("phase", sa.String(20), nullable=False, server_default=RunPhase.IDLE.value),
    sa.Column("cursor", ShortText),  # where the phase continues
    sa.Column("thorough", sa.Boolean, nullable=False, server_default=sa.false()),  # compare every customer
    sa.Column("report", Json, nullable=False),  # the findings of this run, or of the last one
    time_column("mark"),  # events up to here were read, in Stripe's time
    time_column("since"),  # the range of this run
    time_column("until"),
    time_column("started_at"),
    time_column("finished_at"),
    sa.Column("claim", sa.String(36)),  # the process that holds it, until claimed_until
    time_column("claimed_until"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    time_column("next_attempt_at"),
    sa.Column("error", sa.Text),
)
