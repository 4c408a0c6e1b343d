"""Incidents, which a person has to look at, and remedies, by which DUPLICATE_POLICY=cancel_newest resolves them.

A remedy has repayments: what is given back, each a row before it is a call.
"""

from enum import StrEnum

import sqlalchemy as sa

from billing.models.columns import BigId, Json, ShortText, metadata, partial_index, time_column


class RemedyState(StrEnum):
    """planned -> canceled -> refunded | nothing_to_refund; planned -> dropped when it is no longer needed.

    `refunded` means that the money is back. It is `canceled` again when Stripe says later that a refund has failed.
    `by_person`: somebody resolved the incident by hand.
    """

    PLANNED = "planned"
    CANCELED = "canceled"
    REFUNDED = "refunded"
    NOTHING_TO_REFUND = "nothing_to_refund"
    DROPPED = "dropped"
    BY_PERSON = "by_person"


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
    sa.Column("chosen", Json),  # what a person decided about subscriptions: {keep, cancel: [...]}
    partial_index("uq_incidents_open", "customer_id", "product", "kind", where="resolved_at IS NULL", unique=True),
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
    sa.Column("error", sa.Text),  # what of its money is not back, and why
    time_column("created_at", nullable=False),
    time_column("finished_at"),
    sa.Column("notices", sa.Integer, nullable=False, server_default="0"),  # events about the customer's refunds
    sa.Column("noticed", sa.Integer, nullable=False, server_default="0"),  # how many of them the state knows of
    sa.Index("ix_remedies_incident_id_state", "incident_id", "state"),
    sa.Index("ix_remedies_customer_id_state", "customer_id", "state"),
    # one cancellation at a time for each customer: two at once could end both subscriptions
    partial_index("uq_remedies_planned", "customer_id", "product", where="state = 'planned'", unique=True),
)

# One refund or one credit, written before it is sent.
repayments = sa.Table(
    "repayments",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("remedy_id", BigId, sa.ForeignKey("remedies.id"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),  # refund or credit
    sa.Column("source", ShortText, nullable=False),  # the invoice's payment, or the invoice
    sa.Column("amount", sa.BigInteger, nullable=False),  # in the smallest unit
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("parameters", Json, nullable=False),  # exactly what is sent
    sa.Column("idempotency_key", ShortText, nullable=False, unique=True),
    sa.Column("spent", sa.Boolean, nullable=False, server_default=sa.false()),  # the key gave a failure
    sa.Column("stripe_id", ShortText),  # of the refund or the balance transaction
    sa.Column("status", sa.String(40)),  # Stripe's, as last read
    sa.Column("error", sa.Text),
    time_column("created_at", nullable=False),
    time_column("first_sent_at"),  # by Stripe's clock; NULL: its key was never sent
    time_column("last_sent_at"),
    sa.UniqueConstraint("remedy_id", "kind", "source"),
)
