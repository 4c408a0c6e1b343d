"""Access by more than the status: disputes, refunds, a commitment's end, and trials of the product."""

import sqlalchemy as sa
from alembic import op

from billing.models import UtcTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Go forward."""
    op.add_column("subscriptions", sa.Column("commitment_ends_at", UtcTime(), nullable=True))
    op.add_column("subscriptions", sa.Column("disputed", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("subscriptions", sa.Column("refunded", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "product_trials",
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("product", sa.String(length=255), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "product", name=op.f("pk_product_trials")),
    )
