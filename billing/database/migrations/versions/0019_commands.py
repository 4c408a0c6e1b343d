"""What commands show and ask for: tries of a notification, a choice between subscriptions, a comparison, marks."""

import sqlalchemy as sa
from alembic import op

from billing.models import Json, UtcTime

revision = "0019"
down_revision = "0018"
minimum_version = "0014"  # it only adds a table and nullable columns


def upgrade() -> None:
    """Go forward."""
    op.add_column("outbox", sa.Column("history", Json, nullable=True))
    op.add_column("incidents", sa.Column("chosen", Json, nullable=True))
    op.add_column("customers", sa.Column("sync_asked_at", UtcTime(), nullable=True))
    op.add_column("customers", sa.Column("sync_error", sa.Text(), nullable=True))
    op.create_table(
        "marks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("last_at", UtcTime(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
