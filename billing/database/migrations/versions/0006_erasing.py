"""Erasing a user: why and until when, and a lane in which nothing arrives any more."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go forward."""
    op.add_column("customers", sa.Column("erasure_reason", sa.Text(), nullable=True))
    op.add_column("customers", sa.Column("erasure_finished_at", UtcTime(), nullable=True))
    op.add_column("lanes", sa.Column("erased", sa.Boolean(), server_default=sa.false(), nullable=False))
