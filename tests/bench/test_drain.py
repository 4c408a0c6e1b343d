"""Bursts through a real worker: what they cost at Stripe."""

from pathlib import Path

from billing.database import Database
from tests.bench.drain import WORKERS, drain
from tests.bench.stage import AWAY_SECONDS, BURST, running_sandbox
from tests.bench.storm import Stripe
from tests.bench.trickle import trickle

CUSTOMERS = 8


def test_burst_of_twelve_costs_at_most_two_fetches(database: Database, tmp_path: Path) -> None:
    """WHK-14, LED-2: sixteen threads fall over the same customers at once; the usual worker fetches twelve times."""
    with running_sandbox(tmp_path) as address:
        stripe = Stripe(address)
        customers = [str(stripe.control("POST", "/v1/customers")["id"]) for _ in range(CUSTOMERS)]
        stripe.slow_down(AWAY_SECONDS)
        done = drain(database, tmp_path, stripe, address, customers, WORKERS["onelane"])
        assert CUSTOMERS <= done.fetches <= 2 * CUSTOMERS
        usual = drain(database, tmp_path, stripe, address, customers, WORKERS["one task for each event"])
        assert usual.fetches == BURST * CUSTOMERS, "or the comparison would be worth nothing"


def test_trickle_of_twelve_costs_about_three_fetches(database: Database, tmp_path: Path) -> None:
    """WHK-75, WHK-77: with Celery's own delayed messages between the fetches."""
    with running_sandbox(tmp_path) as address:
        found = trickle(database, tmp_path, address, WORKERS["onelane"])
    assert found.fetches <= 2 + int(found.window / (1 + AWAY_SECONDS))
