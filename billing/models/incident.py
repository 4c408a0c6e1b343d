"""Incidents, which a person has to look at, and remedies, by which DUPLICATE_POLICY=cancel_newest resolves them."""

from enum import StrEnum

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, time_column


class RemedyState(StrEnum):
    """planned -> canceled -> refunded | nothing_to_refund; planned -> dropped when it is no longer needed."""

    PLANNED = "planned"
    CANCELED = "canceled"
    REFUNDED = "refunded"
    NOTHING_TO_REFUND = "nothing_to_refund"
    DROPPED = "dropped"


# At most one open row for each customer, product and kind.
incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("customer_id", ShortText, nullable=False),
    sa.Column("product", ShortText, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("detail", Json, nullable=False),
    time_column("opened_at", nullable=False),
    time_column("resolved_at"),
    sa.Column("reason", sa.Text),  # why a remedy left it open
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # transient ones, in a row
    time_column("next_attempt_at"),  # a remedy is not tried before this; NULL is now
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

# The cancellation and refunds of one subscription, written before each call that changes something.
remedies = sa.Table(
    "remedies",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("incident_id", BigId, sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("customer_id", ShortText, nullable=False),
    sa.Column("product", ShortText, nullable=False),
    sa.Column("subscription_id", ShortText, nullable=False),  # the one to cancel
    sa.Column("kept_id", ShortText, nullable=False),  # the one that stays, at planning
    sa.Column("nonce", sa.String(36), nullable=False, unique=True),  # in the cancellation's comment: it is ours
    sa.Column("refund_key", sa.String(36), nullable=False),  # the idempotency key of its refunds
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("error", sa.Text),  # why its refund is refused
    time_column("created_at", nullable=False),
    time_column("finished_at"),
    sa.Index("ix_remedies_incident_id_state", "incident_id", "state"),
    sa.Index("ix_remedies_customer_id_state", "customer_id", "state"),
    sa.Index(  # one cancellation at a time for each customer: two at once could end both subscriptions
        "uq_remedies_planned",
        "customer_id",
        "product",
        unique=True,
        postgresql_where=sa.text("state = 'planned'"),
        sqlite_where=sa.text("state = 'planned'"),
    ),
)
