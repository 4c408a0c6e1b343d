"""What Stripe tells, and of which account: events as they came, replays of them, the upkeep that finds more."""

from enum import StrEnum

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, time_column


class EventStatus(StrEnum):
    """pending -> done | ignored | dead; rejected from the start (wrong mode or account)."""

    PENDING = "pending"
    DONE = "done"
    IGNORED = "ignored"
    REJECTED = "rejected"
    DEAD = "dead"


class EventSource(StrEnum):
    """How an event came here."""

    DELIVERED = "delivered"
    RECONCILED = "reconciled"  # read from Stripe's list: its delivery never came, or comes later as a duplicate


class ReplayState(StrEnum):
    """running -> finished | stopped; a replay that was killed stays running until another one takes its place."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"


class UpkeepPhase(StrEnum):
    """What an unfinished upkeep is at, in this order; pruning has one phase only."""

    IDLE = "idle"
    STRAYS = "strays"
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
    sa.Column("customer_id", ShortText),  # a hint from the payload: whose
    sa.Column("object_id", ShortText),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claim", sa.String(36)),  # who works on it, until claimed_until
    time_column("claimed_until"),
    time_column("next_attempt_at", nullable=False),
    time_column("created_at", nullable=False),  # Stripe's, one-second resolution: never used for ordering
    time_column("received_at", nullable=False),
    time_column("finished_at"),
    sa.Column("error", sa.Text),
    sa.Column("payload", sa.LargeBinary),  # NULL once pruned
    sa.Column("source", sa.String(20), nullable=False, server_default=EventSource.DELIVERED.value),
    sa.UniqueConstraint("account", "livemode", "event_id"),
    sa.Index("ix_events_status_next_attempt_at", "status", "next_attempt_at"),
    sa.Index("ix_events_customer_id_status", "customer_id", "status"),
    sa.Index("ix_events_type", "type"),
)

# Every time that an operator had events worked again, and why.
replays = sa.Table(
    "replays",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("filter", Json, nullable=False),  # what was asked for, as the command line said it
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("counted", sa.Integer, nullable=False),  # how many matched before it began
    sa.Column("replayed", sa.Integer, nullable=False, server_default="0"),  # how many it has set back
    time_column("started_at", nullable=False),
    time_column("alive_until", nullable=False),  # its process is gone when this is over and it still runs
    time_column("finished_at"),
    sa.Index(  # one at a time: no event is set back by two operators at once
        "uq_replays_running",
        "state",
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    ),
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

# What is done from time to time, one row each (see upkeep_ledger): how far it has come, and who is at it.
upkeep = sa.Table(
    "upkeep",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("phase", sa.String(20), nullable=False, server_default=UpkeepPhase.IDLE.value),
    sa.Column("cursor", ShortText),  # where in the phase to go on
    sa.Column("thorough", sa.Boolean, nullable=False, server_default=sa.false()),  # leave no customer out
    sa.Column("report", Json, nullable=False),  # what this run, or the last one, has found
    time_column("mark"),  # everything up to here was read, by Stripe's clock
    time_column("since"),  # what this run reads
    time_column("until"),
    time_column("started_at"),
    time_column("finished_at"),
    sa.Column("claim", sa.String(36)),  # who is at it, until claimed_until
    time_column("claimed_until"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    time_column("next_attempt_at"),
    sa.Column("error", sa.Text),
)
