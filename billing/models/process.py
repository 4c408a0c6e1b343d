"""Processes: who is there, and what they saw happen."""

import sqlalchemy as sa

from billing.models.columns import metadata, time_column

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
