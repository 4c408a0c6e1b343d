"""What operators look at: the audit log, their logins, who is there, what happened, counts, and doctor's answers."""

import sqlalchemy as sa

from billing.models.columns import BigId, Json, metadata, time_column

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

# One row for each login, until it is ended or twelve hours old.
console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # made of the cookie's token and the password; neither is kept
    sa.Column("who", sa.String(255), nullable=False),  # as the audit log names them
    time_column("began_at", nullable=False),
    time_column("ends_at", nullable=False, index=True),
)

# One row for each process of ours, written again every 10 s while it lives.
processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),  # web, worker or beat
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("queues", sa.String(255), nullable=False, server_default=""),  # of a worker, separated by commas
    sa.Column("threads", sa.Integer, nullable=False, server_default="1"),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    time_column("started_at", nullable=False),  # by the database's clock, both
    time_column("seen_at", nullable=False, index=True),
)

# What happened, one row for each kind: how often, when last, and why then. Written with the heartbeat.
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("times", sa.BigInteger, nullable=False),
    time_column("last_at", nullable=False),  # by the database's clock
    sa.Column("why", sa.Text, nullable=False),
)

# Few rows: a dozen names for each minute of some days.
minute_counts = sa.Table(
    "minute_counts",
    metadata,
    # Whole minutes since 1970 by the database's clock: a number, so that both databases group it by a division.
    sa.Column("minute", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# One row for each time that somebody asked in the console. Only workers have Stripe's key.
examinations = sa.Table(
    "examinations",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    time_column("asked_at", nullable=False),
    time_column("started_at"),  # a worker has taken it
    time_column("finished_at"),
    sa.Column("findings", Json),  # [{subject, verdict, sentence}, ...]
    sa.Column("prices", Json),  # [{plan, price, catalog, stripe}, ...]
)
