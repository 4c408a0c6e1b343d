"""This machine's clock beside Stripe's and the database's.

A delivery's signature holds for 300 s by our clock, and due times are written by one process and read by another.
"""

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.stripe_gateway import GatewayClient
from billing.webhooks.signature import TOLERANCE_SECONDS

UNLIKE_SECONDS = 10  # Stripe's Date has whole seconds, and its answer takes some time
_FIX = "Set this machine's clock by NTP (`timedatectl`)."


def examine_clocks(stripe: GatewayClient | None, database: Database | None, *, clock: Clock) -> Iterator[Finding]:
    """By how much the clocks differ. Stripe must have answered something before: its time is that answer's `Date`."""
    if stripe is not None:
        yield from _differs((clock.now() - stripe.now()).total_seconds(), "Stripe's")
    if database is not None and not database.is_sqlite:  # whose clock is this machine's
        with database.read() as connection:
            theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        yield from _differs((clock.now() - theirs).total_seconds(), "the database's")


def _differs(seconds: float, whose: str) -> Iterator[Finding]:
    how = f"This machine's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {whose}"
    if abs(seconds) > TOLERANCE_SECONDS:
        yield wrong("clock", f"{how}: deliveries are refused as too old or not of now. {_FIX}")
    elif abs(seconds) > UNLIKE_SECONDS:
        yield warning("clock", f"{how}. {_FIX}")
    else:
        yield fine("clock", f"This machine's clock agrees with {whose}.")
