"""Backoff and leases: how long failed work waits, and what a clock that is ahead may delay."""

from datetime import timedelta

import pytest

from billing.errors import StripeBusy, StripeUnclear, TransientError
from billing.rules.backoff import BUSY_SECONDS, Backoff, is_failure
from tests.support.builders import NOON

BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=60))


@pytest.mark.parametrize(("failures", "longest"), [(0, 1), (1, 2), (5, 32), (6, 60), (5000, 60)])
def test_waits_double_up_to_the_longest_and_half_is_by_chance(failures, longest):
    """OPS-70"""
    waits = {BACKOFF.wait_seconds(failures, TransientError("again")) for _ in range(50)}
    assert longest / 2 <= min(waits) < max(waits) <= longest
    assert len(waits) > 40


@pytest.mark.parametrize(("asked", "least"), [(None, 1), (7, 7), (7200, 60)])
def test_stripes_retry_after_is_honoured_up_to_the_longest_wait(asked, least):
    """OPS-70"""
    assert BACKOFF.wait_seconds(1, StripeUnclear("no answer", status=503, retry_after=asked)) >= least
    assert BACKOFF.wait_seconds(1, StripeUnclear("no answer", status=503, retry_after=asked)) <= max(2, least)


def test_a_busy_stripe_is_no_failure_and_its_waits_do_not_grow():
    """WHK-95"""
    busy = StripeBusy("slow down", status=429)
    assert not is_failure(busy)
    assert is_failure(TransientError("again"))
    assert BACKOFF.wait_seconds(6, busy) <= BUSY_SECONDS


@pytest.mark.parametrize(
    ("due_in", "left"),
    [(None, 0), (-5, 0), (0, 0), (5, 5), (60, 60), (60.001, 0), (6 * 3600, 0)],
)
def test_time_beyond_the_longest_wait_is_a_wrong_clocks(due_in, left):
    """OPS-71"""
    due_at = None if due_in is None else NOON + timedelta(seconds=due_in)
    assert BACKOFF.seconds_left(due_at, now=NOON) == left
