"""The audit log: what people changed, on the command line."""

import sqlalchemy as sa

from billing.models.columns import BigId, metadata, time_column

# One row for each command that writes: written before it begins, with what came of it at its end.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    time_column("at", nullable=False),
    sa.Column("who", sa.String(255), nullable=False),  # the user and host that ran the command
    sa.Column("command", sa.String(64), nullable=False),
    sa.Column("target", sa.Text),  # the row, or the filter
    sa.Column("reason", sa.Text),
    sa.Column("outcome", sa.Text),  # NULL: it runs, or its process was killed
    time_column("ended_at"),
)
