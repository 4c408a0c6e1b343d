"""Events worked as a worker does, for tests that hand in their own collaborators."""

from collections.abc import Callable
from functools import partial
from typing import Any

from billing.clock import Clock
from billing.maintenance.reconcile import begin_with_everybody
from billing.webhooks.process import Context, work_events
from tests.support.builders import CATALOG


def work_due(*, clock: Clock, stop: Callable[[], bool] = lambda: False, **collaborators: Any) -> None:
    """Work one wake-up: everything that is due, or until `stop`."""
    everybody = partial(begin_with_everybody, clock=clock)
    work_events(Context(**{"catalog": CATALOG, **collaborators}, clock=clock, compare_everybody=everybody), stop=stop)
