"""The attempt that made a subscription: by it, what the client said at the checkout is found."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
minimum_version = "0014"  # it only adds a column


def upgrade() -> None:
    """Go forward. Each row gets its nonce with the customer's next sync."""
    op.add_column("subscriptions", sa.Column("nonce", sa.String(length=36), nullable=True))
