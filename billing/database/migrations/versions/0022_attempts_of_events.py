"""Attempts of events: why and when each failed one did, and how long the last one took."""

import sqlalchemy as sa
from alembic import op

from billing.models.columns import Json

revision = "0022"
down_revision = "0021"
minimum_version = "0014"  # it only adds columns that may be empty


def upgrade() -> None:
    """Go forward."""
    op.add_column("events", sa.Column("seconds", sa.Float()))
    op.add_column("events", sa.Column("history", Json))
