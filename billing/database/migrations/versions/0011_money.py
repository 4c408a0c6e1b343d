"""Access by the invoices of the current period, and by whether collecting is paused."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go forward."""
    op.add_column("subscriptions", sa.Column("payment", sa.String(length=20), nullable=True))
    op.add_column("subscriptions", sa.Column("collection_paused", sa.String(length=40), nullable=True))
    op.add_column("subscriptions", sa.Column("collection_resumes_at", UtcTime(), nullable=True))
