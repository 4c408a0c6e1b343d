"""Upkeep: how far reconciling and pruning have come; and on events whether they were delivered or found."""

import sqlalchemy as sa
from alembic import op

from billing.models import Json, UtcTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward."""
    op.add_column("events", sa.Column("source", sa.String(length=20), server_default="delivered", nullable=False))
    op.create_table(
        "upkeep",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phase", sa.String(length=20), server_default="idle", nullable=False),
        sa.Column("cursor", sa.String(length=255), nullable=True),
        sa.Column("thorough", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("report", Json, nullable=False),
        sa.Column("mark", UtcTime(), nullable=True),
        sa.Column("since", UtcTime(), nullable=True),
        sa.Column("until", UtcTime(), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.Column("claim", sa.String(length=36), nullable=True),
        sa.Column("claimed_until", UtcTime(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upkeep")),
    )
