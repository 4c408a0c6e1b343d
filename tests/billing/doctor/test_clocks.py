"""This machine's clock beside the database's, which only PostgreSQL has."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.database import Database
from billing.doctor.clocks import examine_clocks
from billing.doctor.finding import Verdict
from tests.support.builders import MovableClock


@pytest.mark.parametrize(
    ("ahead", "verdict", "said"),
    [
        (0, Verdict.OK, "agrees with the database's"),
        (3600, Verdict.WARNING, "s ahead of the database's"),
        (-3600, Verdict.WARNING, "s behind the database's"),
    ],
)
def test_clock_that_differs_from_the_databases_is_named(
    database: Database, ahead: int, verdict: Verdict, said: str
) -> None:
    """OPS-93; SQLite has the clock of this machine."""
    clock = MovableClock(datetime.now(UTC) + timedelta(seconds=ahead))
    found = list(examine_clocks(None, database, clock=clock))
    assert [finding.verdict for finding in found] == ([] if database.is_sqlite else [verdict])
    assert all(said in finding.sentence for finding in found)
    assert all("NTP" in finding.sentence for finding in found if finding.verdict is not Verdict.OK)
