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
_FIX = "Set the one that is wrong by NTP (`timedatectl` shows this machine's)."


def examine_clocks(stripe: GatewayClient | None, database: Database | None, *, clock: Clock) -> Iterator[Finding]:
    """By how much the clocks differ. Stripe must have answered something before: its time is that answer's `Date`."""
    if stripe is not None:
        ahead = (clock.now() - stripe.now()).total_seconds()
        if abs(ahead) > TOLERANCE_SECONDS:
            how = _differs(ahead, "Stripe's")
            yield wrong("clock", f"{how}: deliveries are refused as not of now. {_FIX}")
        else:
            yield _close(ahead, "Stripe's")
    if database is not None and not database.is_sqlite:  # whose clock is this machine's
        with database.read() as connection:
            theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        yield _close((clock.now() - theirs).total_seconds(), "the database's")


def _close(ahead: float, whose: str) -> Finding:
    """Due times bear hours (OPS-71), so another difference than to Stripe's clock is a warning."""
    if abs(ahead) > UNLIKE_SECONDS:
        return warning("clock", f"{_differs(ahead, whose)}. {_FIX}")
    return fine("clock", f"This machine's clock agrees with {whose}.")


def _differs(ahead: float, whose: str) -> str:
    return f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {whose}"
