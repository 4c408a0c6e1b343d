"""A customer that was taken over is fetched at once: when it is due, on its user's row."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go forward."""
    op.add_column("customers", sa.Column("sync_due_at", UtcTime(), nullable=True))
    op.add_column("customers", sa.Column("sync_failures", sa.Integer(), server_default="0", nullable=False))
    waits = sa.text("sync_due_at IS NOT NULL")
    op.create_index(
        "ix_customers_sync_due_at", "customers", ["sync_due_at"], postgresql_where=waits, sqlite_where=waits
    )
