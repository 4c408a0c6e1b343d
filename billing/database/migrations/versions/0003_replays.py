"""Replays: every time that an operator had events worked again, why, and what the events were before."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.models import UtcTime

revision = "0003"
down_revision = "0002"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "replays",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("filter", JSON, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.Column("replayed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("alive_until", UtcTime(), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
    )
    op.create_index(
        "uq_replays_running",
        "replays",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "replayed_events",
        sa.Column("event_row_id", BIG_ID, nullable=False),
        sa.Column("replay_id", BIG_ID, nullable=False),
        sa.Column("was_status", sa.String(length=20), nullable=False),
        sa.Column("was_error", sa.Text(), nullable=True),
        sa.Column("replayed_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_row_id"], ["events.id"], name=op.f("fk_replayed_events_event_row_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["replay_id"], ["replays.id"], name=op.f("fk_replayed_events_replay_id")),
        sa.PrimaryKeyConstraint("event_row_id", "replay_id", name=op.f("pk_replayed_events")),
    )
