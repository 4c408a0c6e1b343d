"""What doctor found when a worker was asked to look."""

import sqlalchemy as sa

from billing.models.columns import BigId, Json, metadata, time_column

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
