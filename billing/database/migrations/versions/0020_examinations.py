"""What doctor found when a worker was asked to look."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.models import UtcTime

revision = "0020"
down_revision = "0019"
minimum_version = "0014"  # it only adds a table

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "examinations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asked_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.Column("findings", JSON, nullable=True),
        sa.Column("prices", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_examinations")),
    )
