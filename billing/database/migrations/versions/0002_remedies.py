"""What is done about duplicates: remedies, and on an incident why it is still open and when to look again."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0002"
down_revision = "0001"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.add_column("incidents", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("incidents", sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("incidents", sa.Column("next_attempt_at", UtcTime(), nullable=True))
    op.create_table(
        "remedies",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("incident_id", BIG_ID, nullable=False),
        sa.Column("customer_id", sa.String(length=255), nullable=False),
        sa.Column("product", sa.String(length=255), nullable=False),
        sa.Column("subscription_id", sa.String(length=255), nullable=False),
        sa.Column("kept_id", sa.String(length=255), nullable=False),
        sa.Column("nonce", sa.String(length=36), nullable=False),
        sa.Column("refund_key", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=op.f("fk_remedies_incident_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remedies")),
        sa.UniqueConstraint("nonce", name=op.f("uq_remedies_nonce")),
    )
    op.create_index("ix_remedies_incident_id_state", "remedies", ["incident_id", "state"])
    op.create_index("ix_remedies_customer_id_state", "remedies", ["customer_id", "state"])
    op.create_index(
        "uq_remedies_planned",
        "remedies",
        ["customer_id", "product"],
        unique=True,
        postgresql_where=sa.text("state = 'planned'"),
        sqlite_where=sa.text("state = 'planned'"),
    )
