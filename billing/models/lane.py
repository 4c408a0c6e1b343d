"""Users, their lanes, and the rows of a lane: checkouts, attempts and operations."""

from enum import StrEnum

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, partial_index, time_column


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


class AttemptOutcome(StrEnum):
    """How an attempt's session ended, as Stripe answered when it was last read."""

    COMPLETED = "completed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"  # we expired it for a newer checkout
    REFUSED = "refused"  # Stripe refused to create it


class OperationStatus(StrEnum):
    """A buyer's change of their subscription, as they see it."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"  # by us: it does not apply, for example without a subscription
    FAILED = "failed"  # refused by Stripe


# One Stripe customer per user, written ahead with its own key.
customers = sa.Table(
    "customers",
    metadata,
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("customer_id", ShortText, unique=True),
    sa.Column("idempotency_key", sa.String(36), nullable=False),
    sa.Column("parameters", Json, nullable=False),
    time_column("created_at", nullable=False),
    time_column("requested_at"),  # when the first POST with this key went out; NULL: none did
    time_column("erased_at"),  # from here on nothing personal is recorded
    sa.Column("erasure_reason", sa.Text),
    time_column("erasure_finished_at"),  # everything personal was removed
    time_column("sync_due_at"),  # taken over and not fetched since: when a worker may; NULL: nothing to do
    sa.Column("sync_failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    time_column("sync_asked_at"),  # by a person, of a customer who was fetched before
    sa.Column("sync_error", sa.Text),  # why the last try failed
    # the few that wait
    partial_index("ix_customers_sync_due_at", "sync_due_at", where="sync_due_at IS NOT NULL"),
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
    sa.Column("erased", sa.Boolean, nullable=False, server_default=sa.false()),  # its user was erased
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    sa.Column("last_error", ShortText),  # the code of the last of them
    time_column("next_attempt_at"),  # "again later": not before this; NULL is now
    sa.UniqueConstraint("user_id", "product"),
    sa.Index("ix_lanes_state", "state"),
)

# One creation of a checkout session: kept, never reused.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("nonce", sa.String(36), primary_key=True),
    sa.Column("lane_id", BigId, sa.ForeignKey("lanes.id"), nullable=False),
    sa.Column("checkout_id", sa.String(40), nullable=False),  # the checkout that it was created for
    sa.Column("idempotency_key", ShortText, nullable=False, unique=True),
    sa.Column("parameters", Json, nullable=False),  # exactly what is sent
    sa.Column("fingerprint", sa.String(64), nullable=False),  # of the request it answers
    sa.Column("session_id", ShortText, unique=True),
    sa.Column("url", sa.Text),  # a bearer secret; given out only by the lane join
    sa.Column("outcome", sa.String(20)),
    time_column("created_at", nullable=False),
    time_column("expires_at", nullable=False),
    time_column("doubted_at"),  # first time step 5b did not find it
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
    time_column("arrived_at", nullable=False),
    time_column("answered_at"),
    sa.UniqueConstraint("lane_id", "number"),
    sa.UniqueConstraint("user_id", "idempotency_key"),
    sa.Index("ix_checkouts_lane_id_status", "lane_id", "status"),
    sa.Index("ix_checkouts_status_arrived_at", "status", "arrived_at"),
    # the few keys that are not yet forgotten, by age
    partial_index("ix_checkouts_key_age", "arrived_at", where="idempotency_key IS NOT NULL"),
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
    sa.Column("subscription_id", ShortText),  # the one that it changes, once decided
    sa.Column("call", Json),  # the write that may be on its way to Stripe: name, target, parameters, key, planned_at
    sa.Column("sent", Json, nullable=False),  # the names of those that were answered
    sa.Column("failure", Json),  # {code, detail} that it will end with, while its traces are being removed
    sa.Column("url", sa.Text),  # of a portal session: a bearer secret, forgotten after minutes
    sa.Column("error", Json),  # {code, detail, ...} of refused and failed
    sa.Column("idempotency_key", ShortText),  # the client's own; NULL again after 24 h
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    sa.Column("last_error", ShortText),  # the code of the last of them
    time_column("next_attempt_at"),  # "again later": not before this; NULL is now
    time_column("arrived_at", nullable=False),
    time_column("finished_at"),
    sa.UniqueConstraint("lane_id", "number"),
    sa.UniqueConstraint("user_id", "idempotency_key"),
    sa.Index("ix_operations_lane_id_status", "lane_id", "status"),
    sa.Index("ix_operations_status", "status"),
    # the few keys and addresses that are not yet forgotten
    partial_index("ix_operations_key_age", "arrived_at", where="idempotency_key IS NOT NULL OR url IS NOT NULL"),
)
