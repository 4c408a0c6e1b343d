"""The time of the test clock that a subscription lives on."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0021"
down_revision = "0020"
minimum_version = "0014"  # it only adds a column


def upgrade() -> None:
    """Go forward. Each row gets its time with the customer's next sync."""
    op.add_column("subscriptions", sa.Column("frozen_at", UtcTime(), nullable=True))
