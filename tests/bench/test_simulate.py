"""The simulation against what can be computed by hand, and against what was measured."""

import pytest

from tests.bench.simulate import CASES, World, simulate

# No spread: what comes out can be added up.
PLAIN = World(12, calls=1, stripe_spread=0, stripe_limit=10_000)
# `make scale`, one worker of two threads, Stripe 100 ms away, a hundred customers with twelve events: two runs.
MEASURED = 188


def test_one_visit_takes_the_sum_of_its_steps() -> None:
    found = simulate(PLAIN, arrivals=[0.0])
    steps = 12 * 0.000225 + 4 / 5_000 + 0.0108 + 1 / 10_000 + 0.15 + 3 * 0.003
    assert found.median == pytest.approx(steps)


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 1), (1, 2)])
def test_threads_share_the_waiting(threads: int, workers: int) -> None:
    """Beyond the first rounds, the rate is that of so many hands, each of which waits for Stripe."""
    found = simulate(
        World(12, calls=1, stripe_spread=0, stripe_limit=10_000, threads=threads, workers=workers),
        arrivals=[0.0] * 1_000,
    )
    each = 0.0108 + 1 / 10_000 + 0.15 + 3 * (0.003 + 1 / 5_000)
    assert found.events_per_second == pytest.approx(12 * threads * workers / each, rel=0.05)


def test_more_than_stripe_takes_waits_for_stripe() -> None:
    few, many = (simulate(World(1_000, workers=workers)) for workers in (4, 16))
    assert few.busiest == many.busiest == "Stripe's limit"
    assert many.events_per_second == pytest.approx(12 * 75 / 1.5, rel=0.05)
    assert many.median == pytest.approx(few.median, rel=0.05), "workers do not help"


def test_one_worker_is_as_fast_as_it_was_measured() -> None:
    measured_world = World(12, calls=1, stripe_seconds=0.1, stripe_spread=0, stripe_limit=10_000, threads=2)
    assert simulate(measured_world, arrivals=[0.0] * 100).events_per_second == pytest.approx(MEASURED, rel=0.1)


def test_table_is_the_same_every_time() -> None:
    world = CASES[0][1]
    assert simulate(world) == simulate(world)
