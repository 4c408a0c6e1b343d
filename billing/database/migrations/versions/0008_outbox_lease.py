"""A notification is held by a lease of its own, no longer by the time of its next attempt."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go forward."""
    op.add_column("outbox", sa.Column("claim", sa.String(length=36), nullable=True))
    op.add_column("outbox", sa.Column("claimed_until", UtcTime(), nullable=True))
