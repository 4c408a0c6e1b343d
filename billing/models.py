"""The ledger's tables, and the frozen rows that flows read from them.

Times are aware UTC (`UtcTime`), ids are Stripe's or ours as text, states are the StrEnums below.
The schema is created by the migrations; `tests/billing/test_migrations.py` holds both together.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware UTC time: timestamptz in PostgreSQL, naive text in UTC in SQLite, which has no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive times; hand SQLite the UTC wall time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive time")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Give every time back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ShortText = sa.String(255)


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


class UpkeepPhase(StrEnum):
    """What an unfinished upkeep is at, in this order; pruning has one phase only."""

    IDLE = "idle"
    STRAYS = "strays"
    EVENTS = "events"
    OBJECTS = "objects"
    CUSTOMERS = "customers"
    PRUNING = "pruning"


class LaneState(StrEnum):
    """The four states of the checkout protocol."""

    CLOSED = "closed"
    CREATING = "creating"
    OPEN = "open"
    CLOSING = "closing"


class CheckoutStatus(StrEnum):
    """A checkout as its buyer sees it."""

    PENDING = "pending"
    OPEN = "open"
    COMPLETED = "completed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    FAILED = "failed"


class OperationStatus(StrEnum):
    """A buyer's change of their subscription, as they see it."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"  # it makes no sense for this user: no subscription, say
    FAILED = "failed"  # Stripe said no


class AttemptOutcome(StrEnum):
    """What became of an attempt's session, as Stripe said when it was last read."""

    COMPLETED = "completed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"  # we expired it for a newer checkout
    REFUSED = "refused"  # Stripe never made it


class ReplayState(StrEnum):
    """running -> finished | stopped; a replay that was killed stays running until another one takes its place."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"


class RemedyState(StrEnum):
    """planned -> canceled -> refunded | nothing_to_refund; planned -> dropped when it is no longer called for."""

    PLANNED = "planned"
    CANCELED = "canceled"
    REFUNDED = "refunded"
    NOTHING_TO_REFUND = "nothing_to_refund"
    DROPPED = "dropped"


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _time(name: str, *, nullable: bool = True, index: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcTime, nullable=nullable, index=index)


# One row: the Stripe account and mode this ledger belongs to.
installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stripe_account", ShortText, nullable=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    _time("bound_at", nullable=False),
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
    _time("claimed_until"),
    _time("next_attempt_at", nullable=False),
    _time("created_at", nullable=False),  # Stripe's, one-second resolution: never used for ordering
    _time("received_at", nullable=False),
    _time("finished_at"),
    sa.Column("error", sa.Text),
    sa.Column("payload", sa.LargeBinary),  # NULL once pruned
    sa.Column("source", sa.String(20), nullable=False, server_default=EventSource.DELIVERED.value),
    sa.UniqueConstraint("account", "livemode", "event_id"),
    sa.Index("ix_events_status_next_attempt_at", "status", "next_attempt_at"),
    sa.Index("ix_events_customer_id_status", "customer_id", "status"),
    sa.Index("ix_events_type", "type"),
)

# One Stripe customer per user, written ahead with its own key.
customers = sa.Table(
    "customers",
    metadata,
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("customer_id", ShortText, unique=True),
    sa.Column("idempotency_key", sa.String(36), nullable=False),
    sa.Column("parameters", Json, nullable=False),
    _time("created_at", nullable=False),
    _time("requested_at"),  # when the first POST with this key went out; NULL: none did
    _time("erased_at"),  # from here on nothing personal is taken in
    sa.Column("erasure_reason", sa.Text),
    _time("erasure_finished_at"),  # everything personal was gone
)

# One lane per customer and product.
lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("user_id", sa.String(200), sa.ForeignKey("customers.user_id"), nullable=False),
    sa.Column("product", ShortText, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, server_default=LaneState.CLOSED.value),
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("nonce", sa.String(36)),
    sa.Column("session_id", ShortText),
    sa.Column("last_number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("erased", sa.Boolean, nullable=False, server_default=sa.false()),  # its user: nothing arrives any more
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    sa.Column("last_error", ShortText),  # the code of the last of them
    _time("next_attempt_at"),  # "again later": not before this; NULL is now
    sa.UniqueConstraint("user_id", "product"),
    sa.Index("ix_lanes_state", "state"),
)

# One creation of a checkout session: kept, never reused.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("nonce", sa.String(36), primary_key=True),
    sa.Column("lane_id", BigId, sa.ForeignKey("lanes.id"), nullable=False),
    sa.Column("checkout_id", sa.String(40), nullable=False),  # whose request it was made for
    sa.Column("idempotency_key", ShortText, nullable=False, unique=True),
    sa.Column("parameters", Json, nullable=False),  # exactly what is sent
    sa.Column("fingerprint", sa.String(64), nullable=False),  # of the request it answers
    sa.Column("session_id", ShortText, unique=True),
    sa.Column("url", sa.Text),  # a bearer secret; given out only by the lane join
    sa.Column("outcome", sa.String(20)),
    _time("created_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("doubted_at"),  # first time step 5b did not find it
    sa.Index("ix_attempts_lane_id_created_at", "lane_id", "created_at"),
)

# A buyer's request.
checkouts = sa.Table(
    "checkouts",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("lane_id", BigId, sa.ForeignKey("lanes.id"), nullable=False),
    sa.Column("user_id", sa.String(200), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # order of arrival in its lane
    sa.Column("plan", ShortText, nullable=False),
    sa.Column("price_id", ShortText, nullable=False),  # what the plan resolved to on arrival
    sa.Column("request", Json, nullable=False),  # the whole body
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("nonce", sa.String(36), sa.ForeignKey("attempts.nonce")),  # the attempt it was answered with
    sa.Column("reused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("error", Json),  # {code, detail, ...} of refused and failed
    sa.Column("idempotency_key", ShortText),  # the client's own; NULL again after 24 h
    sa.Column("body_hash", sa.String(64), nullable=False),
    _time("arrived_at", nullable=False),
    _time("answered_at"),
    sa.UniqueConstraint("lane_id", "number"),
    sa.UniqueConstraint("user_id", "idempotency_key"),
    sa.Index("ix_checkouts_lane_id_status", "lane_id", "status"),
    sa.Index("ix_checkouts_status_arrived_at", "status", "arrived_at"),
    sa.Index(  # the few keys that are not yet forgotten, by age
        "ix_checkouts_key_age",
        "arrived_at",
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
    ),
)

# How far a Stripe customer's projection has come.
projections = sa.Table(
    "projections",
    metadata,
    sa.Column("customer_id", ShortText, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("synced_at"),
)

# Stripe's subscriptions as last fetched.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("subscription_id", ShortText, primary_key=True),
    sa.Column("customer_id", ShortText, sa.ForeignKey("projections.customer_id"), nullable=False, index=True),
    sa.Column("product", ShortText),  # our tag, or by price; NULL: not ours
    sa.Column("plan", ShortText),
    sa.Column("price_id", ShortText),
    sa.Column("quantity", sa.Integer),
    sa.Column("status", sa.String(40), nullable=False),
    sa.Column("cancel_at_period_end", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("schedule_id", ShortText),
    sa.Column("scheduled_plan", ShortText),
    _time("current_period_start"),
    _time("current_period_end"),
    _time("cancel_at"),
    _time("canceled_at"),
    _time("ended_at"),
    _time("trial_end"),
    _time("past_due_since"),
    _time("commitment_ends_at"),
    sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()),  # what paid the latest invoice
    sa.Column("refunded", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("created_at", nullable=False),
)

# Access without a subscription, once for each user: whoever looks first begins it.
product_trials = sa.Table(
    "product_trials",
    metadata,
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("product", ShortText, primary_key=True),
    _time("started_at", nullable=False),
    _time("ends_at", nullable=False),
)

# Buyer calls that change a subscription (cancel, reactivate, switch, ...): answered like checkouts.
operations = sa.Table(
    "operations",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("lane_id", BigId, sa.ForeignKey("lanes.id"), nullable=False),
    sa.Column("user_id", sa.String(200), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # order of arrival in its lane, checkouts included
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("request", Json, nullable=False),
    sa.Column("body_hash", sa.String(64), nullable=False),  # of kind and request
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("subscription_id", ShortText),  # what it changes, once that was settled
    sa.Column("call", Json),  # the write that may be on its way to Stripe: name, target, parameters, key, planned_at
    sa.Column("sent", Json, nullable=False),  # the names of those that were answered
    sa.Column("failure", Json),  # {code, detail} that it will end with, while its traces are being removed
    sa.Column("url", sa.Text),  # of a portal session: a bearer secret, forgotten after minutes
    sa.Column("error", Json),  # {code, detail, ...} of refused and failed
    sa.Column("idempotency_key", ShortText),  # the client's own; NULL again after 24 h
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    sa.Column("last_error", ShortText),  # the code of the last of them
    _time("next_attempt_at"),  # "again later": not before this; NULL is now
    _time("arrived_at", nullable=False),
    _time("finished_at"),
    sa.UniqueConstraint("lane_id", "number"),
    sa.UniqueConstraint("user_id", "idempotency_key"),
    sa.Index("ix_operations_lane_id_status", "lane_id", "status"),
    sa.Index("ix_operations_status", "status"),
    sa.Index(  # the few keys and addresses that are not yet forgotten
        "ix_operations_key_age",
        "arrived_at",
        postgresql_where=sa.text("idempotency_key IS NOT NULL OR url IS NOT NULL"),
        sqlite_where=sa.text("idempotency_key IS NOT NULL OR url IS NOT NULL"),
    ),
)

# Changes that the application is to hear of, written with the projection in one transaction.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("message_id", sa.String(40), nullable=False, unique=True),
    sa.Column("customer_id", ShortText, nullable=False, index=True),
    sa.Column("kind", ShortText, nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("next_attempt_at", nullable=False),
    _time("delivered_at"),
    sa.Column("error", sa.Text),
    sa.Index("ix_outbox_status_next_attempt_at", "status", "next_attempt_at"),
)

# What a person has to look at; at most one open row for each customer, product and kind.
incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("customer_id", ShortText, nullable=False),
    sa.Column("product", ShortText, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("detail", Json, nullable=False),
    _time("opened_at", nullable=False),
    _time("resolved_at"),
    sa.Column("reason", sa.Text),  # why it is still open, where we tried to mend it
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    _time("next_attempt_at"),  # a remedy is not tried before this; NULL is now
    sa.Index(
        "uq_incidents_open",
        "customer_id",
        "product",
        "kind",
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
        sqlite_where=sa.text("resolved_at IS NULL"),
    ),
)

# What DUPLICATE_POLICY=cancel_newest does about one subscription, written ahead of every call that changes something.
remedies = sa.Table(
    "remedies",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("incident_id", BigId, sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("customer_id", ShortText, nullable=False),
    sa.Column("product", ShortText, nullable=False),
    sa.Column("subscription_id", ShortText, nullable=False),  # the one to cancel
    sa.Column("kept_id", ShortText, nullable=False),  # the one that stays, as it was planned
    sa.Column("nonce", sa.String(36), nullable=False, unique=True),  # in the cancellation's comment: it was us
    sa.Column("refund_key", sa.String(36), nullable=False),  # the idempotency key of its refunds
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("error", sa.Text),  # why its refund is refused
    _time("created_at", nullable=False),
    _time("finished_at"),
    sa.Index("ix_remedies_incident_id_state", "incident_id", "state"),
    sa.Index("ix_remedies_customer_id_state", "customer_id", "state"),
    sa.Index(  # one cancellation at a time for each customer: two that know nothing of each other could end both
        "uq_remedies_planned",
        "customer_id",
        "product",
        unique=True,
        postgresql_where=sa.text("state = 'planned'"),
        sqlite_where=sa.text("state = 'planned'"),
    ),
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
    _time("started_at", nullable=False),
    _time("alive_until", nullable=False),  # its process is gone when this is over and it still runs
    _time("finished_at"),
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
    _time("replayed_at", nullable=False),
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
    _time("mark"),  # everything up to here was read, by Stripe's clock
    _time("since"),  # what this run reads
    _time("until"),
    _time("started_at"),
    _time("finished_at"),
    sa.Column("claim", sa.String(36)),  # who is at it, until claimed_until
    _time("claimed_until"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    _time("next_attempt_at"),
    sa.Column("error", sa.Text),
)
