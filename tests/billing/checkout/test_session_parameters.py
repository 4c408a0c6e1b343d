"""What is sent to Stripe for a plan, as the sandbox takes it, and what a catalog and the settings may not say."""

from datetime import timedelta
from typing import Any

import pytest

from billing.catalog import Catalog, parse_catalog
from billing.checkout.requests import redirect_error
from billing.errors import ConfigurationError
from billing.models import CheckoutStatus
from billing.process.settings import load_settings
from tests.support.builders import CATALOG
from tests.support.checkout_world import World


def with_plan(world: World, **fields: Any) -> Catalog:
    """The shipped catalog, its standard plan changed."""
    plans = {**world.catalog.plans, "standard": world.catalog.plans["standard"].model_copy(update=fields)}
    return world.catalog.model_copy(update={"plans": plans})


@pytest.mark.parametrize("field", ["trial_end", "billing_starts_at"])
@pytest.mark.parametrize("hours", [1, 24, 47.9, 48, 48.5, 49.5, 24 * 20])
def test_nobody_pays_before_the_day_that_the_plan_names(world: World, field: str, hours: float) -> None:
    """CHK-18: also in the last two days before it, when Stripe takes no trial any more."""
    start = int((world.clock.now() + timedelta(hours=hours)).timestamp())
    world.catalog = with_plan(world, **{field: start})
    view = world.served()
    assert view.status is CheckoutStatus.OPEN, view.error
    world.sandbox.pay(str(view.session_id))
    (subscription,) = world.objects("subscription")
    assert subscription["items"]["data"][0]["current_period_end"] == start
    assert sum(one["amount_paid"] for one in world.objects("invoice")) == 0


@pytest.mark.parametrize("field", ["trial_end", "billing_starts_at"])
@pytest.mark.parametrize("seconds", [0, 3600])
def test_day_that_has_come_means_nothing(world: World, field: str, seconds: int) -> None:
    """CHK-18"""
    start = int((world.clock.now() - timedelta(seconds=seconds)).timestamp())
    world.catalog = with_plan(world, **{field: start})
    world.sandbox.pay(str(world.served().session_id))
    assert sum(one["amount_paid"] for one in world.objects("invoice")) > 0


@pytest.mark.parametrize("name", ["after_expiration", "customer_account", "metadata", "expires_at"])
def test_catalog_may_not_pass_on_what_would_break_the_protocol(name: str) -> None:
    """CHK-1, CHK-3."""
    plans = {"standard": CATALOG.plans["standard"].model_dump(exclude={"key"}, exclude_none=True)}
    with pytest.raises(ConfigurationError, match=name):
        parse_catalog({"product": {"key": "kiloclaw"}, "plans": plans, "session": {name: {}}})


@pytest.mark.parametrize(
    ("set_to", "origin"),
    [
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:443/", "https://[2001:db8::1]"),
    ],
)
def test_ipv6_origin_is_kept_as_browsers_write_it(set_to: str, origin: str) -> None:
    """CHK-9: it is compared with a page's Origin header, too."""
    assert load_settings(redirect_origins=set_to).redirect_origins == (origin,)
    assert redirect_error(f"{origin}/ok", origins=[origin]) is None
    assert redirect_error(f"{origin.replace('1]', '2]')}/ok", origins=[origin]) is not None
