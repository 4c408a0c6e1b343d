"""Counts of each minute, for the charts."""

import sqlalchemy as sa

from billing.models.columns import metadata

# Few rows: a dozen names for each minute of some days.
minute_counts = sa.Table(
    "minute_counts",
    metadata,
    # Whole minutes since 1970 by the database's clock: a number, so that both databases group it by a division.
    sa.Column("minute", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
