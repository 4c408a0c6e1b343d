"""What is given back for a duplicate: a row for each refund and each credit, and events that were about them."""

import sqlalchemy as sa
from alembic import op

from billing.models import Json, UtcTime

revision = "0012"
down_revision = "0011"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    for name in ("notices", "noticed"):
        op.add_column("remedies", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "repayments",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("remedy_id", BIG_ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("spent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("stripe_id", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("first_sent_at", UtcTime(), nullable=True),
        sa.Column("last_sent_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["remedy_id"], ["remedies.id"], name=op.f("fk_repayments_remedy_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repayments")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_repayments_idempotency_key")),
        sa.UniqueConstraint("remedy_id", "kind", "source", name=op.f("uq_repayments_remedy_id_kind_source")),
    )
