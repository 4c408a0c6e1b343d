"""The console: a row for each login."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0017"
down_revision = "0016"
minimum_version = "0014"  # it only adds a table


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "console_sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("began_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_console_sessions")),
    )
    op.create_index(op.f("ix_console_sessions_ends_at"), "console_sessions", ["ends_at"])
