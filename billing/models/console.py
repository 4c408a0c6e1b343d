"""Who is logged in to the console."""

import sqlalchemy as sa

from billing.models.columns import metadata, time_column

# One row for each login, until it is ended or twelve hours old.
console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # made of the cookie's token and the password; neither is kept
    sa.Column("who", sa.String(255), nullable=False),  # as the audit log names them
    time_column("began_at", nullable=False),
    time_column("ends_at", nullable=False, index=True),
)
