"""Several workers together: one budget, and buyers who do not wait for their events."""

from tests.bench.scale import installed
from tests.bench.stage import prepared

PER_SECOND = 40
CUSTOMERS = 60


def test_four_workers_ask_no_more_than_one_budget_allows() -> None:
    """WHK-60, WHK-63: with one budget each it would be 160 a second; every event is worked, each buyer served."""
    with prepared(CUSTOMERS) as stage, installed(stage, workers=4, per_second=PER_SECOND) as installation:
        done = installation.drain()
    assert done.calls_a_second <= PER_SECOND
    assert done.busiest_second <= PER_SECOND * 1.1, "a call may take a moment to Stripe"
    assert done.calls_a_second >= PER_SECOND / 2, "and the budget is used"
    assert done.waits
