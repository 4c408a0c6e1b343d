"""The oldest version of ours that may still run on this schema stands beside the schema's own version."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
minimum_version = "0014"  # an older one asks for exactly its own tables


def upgrade() -> None:
    """Go forward."""
    op.add_column("alembic_version", sa.Column("minimum_version", sa.String(length=32)))
