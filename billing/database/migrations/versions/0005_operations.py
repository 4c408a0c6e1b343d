"""Operations as jobs: order in their lane, the call that may be on its way, and what came of it.

The first table of that name was never written to by any version: it is made anew.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.models import UtcTime

revision = "0005"
down_revision = "0004"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
FORGETTABLE = sa.text("idempotency_key IS NOT NULL OR url IS NOT NULL")


def upgrade() -> None:
    """Go forward."""
    op.drop_table("operations")
    op.create_table(
        "operations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("lane_id", BIG_ID, nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("subscription_id", sa.String(length=255), nullable=True),
        sa.Column("call", JSON, nullable=True),
        sa.Column("sent", JSON, nullable=False),
        sa.Column("failure", JSON, nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.String(length=255), nullable=True),
        sa.Column("next_attempt_at", UtcTime(), nullable=True),
        sa.Column("arrived_at", UtcTime(), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["lane_id"], ["lanes.id"], name=op.f("fk_operations_lane_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sa.UniqueConstraint("lane_id", "number", name=op.f("uq_operations_lane_id_number")),
        sa.UniqueConstraint("user_id", "idempotency_key", name=op.f("uq_operations_user_id_idempotency_key")),
    )
    op.create_index("ix_operations_lane_id_status", "operations", ["lane_id", "status"])
    op.create_index("ix_operations_status", "operations", ["status"])
    op.create_index(
        "ix_operations_key_age",
        "operations",
        ["arrived_at"],
        postgresql_where=FORGETTABLE,
        sqlite_where=FORGETTABLE,
    )
