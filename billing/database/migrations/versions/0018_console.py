"""What the console shows: counts of each minute, replays that workers run, and the events of an object."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
minimum_version = "0014"  # it only adds a table, columns that have a default, and an index

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "minute_counts",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "name", name=op.f("pk_minute_counts")),
    )
    op.add_column("replays", sa.Column("newest_id", BIG_ID))
    op.add_column("replays", sa.Column("cursor", BIG_ID, server_default="0", nullable=False))
    finished = sa.text("status <> 'pending'")
    op.create_index("ix_events_object_id", "events", ["object_id"], postgresql_where=finished, sqlite_where=finished)
