"""Subscriptions as last fetched from Stripe, product trials, and the changes to send to the application."""

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, time_column

# One row for each Stripe customer that was ever fetched.
projections = sa.Table(
    "projections",
    metadata,
    sa.Column("customer_id", ShortText, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    time_column("synced_at"),
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
    time_column("current_period_start"),
    time_column("current_period_end"),
    time_column("cancel_at"),
    time_column("canceled_at"),
    time_column("ended_at"),
    time_column("trial_end"),
    time_column("past_due_since"),
    time_column("commitment_ends_at"),
    sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()),  # what paid the current period
    sa.Column("refunded", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("payment", sa.String(20)),  # what the invoices say beside the status
    sa.Column("collection_paused", sa.String(40)),  # what becomes of the invoices meanwhile; NULL: not paused
    time_column("collection_resumes_at"),
    sa.Column("nonce", sa.String(36)),  # of the attempt that made it, as its metadata say
    time_column("created_at", nullable=False),
    time_column("frozen_at"),  # of the test clock that it lives on
)

# Access without a subscription, once for each user, begun by their first read.
product_trials = sa.Table(
    "product_trials",
    metadata,
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("product", ShortText, primary_key=True),
    time_column("started_at", nullable=False),
    time_column("ends_at", nullable=False),
)

# Changes to send to the application, written in the transaction of the projection.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("message_id", sa.String(40), nullable=False, unique=True),
    sa.Column("customer_id", ShortText, nullable=False, index=True),
    sa.Column("kind", ShortText, nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),  # that came to an end
    sa.Column("history", Json),  # the last of them: [{at, seconds, status, error}]
    sa.Column("claim", sa.String(36)),  # who sends it, until claimed_until
    time_column("claimed_until"),
    time_column("created_at", nullable=False),
    time_column("next_attempt_at", nullable=False),
    time_column("delivered_at"),
    sa.Column("error", sa.Text),
    sa.Index("ix_outbox_status_next_attempt_at", "status", "next_attempt_at"),
)
