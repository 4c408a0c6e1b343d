"""Whether a customer is held is asked of the claimed events alone, which are few."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Go forward."""
    claimed = sa.text("claim IS NOT NULL")
    op.create_index(
        "ix_events_customer_id_claimed_until",
        "events",
        ["customer_id", "claimed_until"],
        postgresql_where=claimed,
        sqlite_where=claimed,
    )
