"""The catalog: what ships, what is refused in one line, and what becomes of it at Stripe (CHK-11)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from billing.catalog import Catalog, load_catalog, parse_catalog
from billing.checkout.rules import Checkout
from billing.checkout.session_parameters import session_parameters
from billing.errors import ConfigurationError
from billing.models import CheckoutStatus

SHIPPED = Path(__file__).parents[2] / "catalog.toml"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER, EARLIER = int(NOW.timestamp()) + 10 * 86400, int(NOW.timestamp()) - 1


def raw(**plan: Any) -> dict[str, Any]:
    """A catalog of one plan."""
    return {
        "product": {"key": "k", "name": "K"},
        "plans": {"p": {"name": "P", "price": "price_1", "interval": "month", **plan}},
    }


def parameters(
    catalog: Catalog, *, first_time: bool = True, first_trial: bool = True, **request: Any
) -> dict[str, Any]:
    """What would be sent to Stripe for its plan `p`."""
    body = {
        "success_url": "https://a/ok",
        "cancel_url": "https://a/no",
        "quantity": 1,
        "client_reference_id": None,
        "metadata": {},
    }
    checkout = Checkout("chk_1", 1, 1, "p", "price_1", body | request, "f", CheckoutStatus.PENDING, NOW)
    options: dict[str, Any] = {"user_id": "user_1", "customer_id": "cus_1", "nonce": "n", "expires_at": NOW, "now": NOW}
    return session_parameters(checkout, catalog=catalog, first_time=first_time, first_trial=first_trial, **options)


def test_shipped_catalog_has_kiloclaws_two_plans() -> None:
    """Literal ids, so that it starts anywhere."""
    catalog = load_catalog(SHIPPED)
    assert catalog.product == "kiloclaw"
    assert list(catalog.plans) == ["standard", "commit"]
    standard, commit = catalog.plans.values()
    assert (standard.interval, standard.interval_count, standard.coupon_for) == ("month", 1, "first_time")
    assert (commit.interval, commit.interval_count, commit.coupon) == ("month", 6, None)
    assert not standard.allow_promotion_codes
    assert not commit.allow_promotion_codes


def test_price_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a default or without one."""
    monkeypatch.setenv("MY_PRICE", "price_live")
    assert parse_catalog(raw(price="env:MY_PRICE")).plans["p"].price == "price_live"
    monkeypatch.delenv("MY_PRICE")
    assert parse_catalog(raw(price="env:MY_PRICE:price_default")).plans["p"].price == "price_default"
    with pytest.raises(ConfigurationError, match="Set MY_PRICE"):
        parse_catalog(raw(price="env:MY_PRICE"))


@pytest.mark.parametrize(
    ("catalog", "says"),
    [
        ({}, "needs a \\[product\\]"),
        ({**raw(), "extra": {}}, "unknown table \\[extra\\]"),
        ({**raw(), "plans": {}}, "no plan"),
        ({**raw(), "plans": {"p": 1}}, "plans.p"),
        ({**raw(), "product": {"name": "K"}}, "product"),
        (raw(price="prod_1"), "plans.p.price"),
        (raw(interval="fortnight"), "plans.p.interval"),
        (raw(colour="red"), "plans.p.colour"),
        (raw(min_quantity=3), "min_quantity"),
        (raw(coupon="c", allow_promotion_codes=True), "exclude each other"),
        (raw(trial_end=1, billing_starts_at=2), "set one"),
        (raw(trial_end=1, trial_days=2), "set one"),
        (raw(trial_days=2, billing_starts_at=2), "set one"),
        (raw(trial_days=0), "trial_days"),
        (raw(trial_days=731), "trial_days"),
        (raw(missing_payment_method="cancel"), "set trial_days"),
        (raw(trial_days=7, missing_payment_method="create_invoice"), "missing_payment_method"),
        (raw(metered=True, max_quantity=5), "without a quantity"),
        ({**raw(), "portal": {"configuration": "cfg_1"}}, "portal.configuration"),
        ({**raw(), "portal": {"name": "bpc_1"}}, "portal.name"),
        ({**raw(), "metadata": {"from_buyers": ["campaign", "type"]}}, "'type'"),
        ({**raw(), "metadata": {"from_buyers": ["onelane_user"]}}, "'onelane_user'"),
        ({**raw(), "metadata": {"from_buyers": ["x" * 41]}}, "no name"),
        ({**raw(), "metadata": {"from_buyers": "campaign"}}, "from_buyers"),
        ({**raw(), "session": {"automatic_tax": {"enabled": True}}}, "customer_update"),
        ({**raw(), "session": {"customer": "cus_1"}}, "may not set customer"),
        ({**raw(), "plans": {n: raw()["plans"]["p"] for n in "ab"}}, "same price"),
    ],
)
def test_catalog_that_makes_no_sense_is_refused_in_one_line(catalog: dict[str, Any], says: str) -> None:
    """It names the place and says what to do."""
    with pytest.raises(ConfigurationError, match=says) as refusal:
        parse_catalog(catalog)
    assert "\n" not in refusal.value.sentence
    assert refusal.value.sentence.startswith("CATALOG")


@pytest.mark.parametrize("content", [None, b"[product", b"\xff\xfe"])
def test_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    """Missing, broken, or no text."""
    path = tmp_path / "catalog.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="CATALOG"):
        load_catalog(path)


def test_coupon_is_for_whom_the_plan_says() -> None:
    """CHK-11."""
    first = parse_catalog(raw(coupon="c"))
    assert parameters(first)["discounts"] == [{"coupon": "c"}]
    assert "discounts" not in parameters(first, first_time=False)
    everyone = parse_catalog(raw(coupon="c", coupon_for="everyone"))
    assert parameters(everyone, first_time=False)["discounts"] == [{"coupon": "c"}]


def test_promotion_codes_are_off_unless_the_plan_allows_them() -> None:
    """Stripe takes no `discounts` beside `allow_promotion_codes`, not even as false."""
    assert "allow_promotion_codes" not in parameters(parse_catalog(raw()))
    assert parameters(parse_catalog(raw(allow_promotion_codes=True)))["allow_promotion_codes"] is True


def test_billing_may_start_later_and_a_start_that_has_passed_means_now() -> None:
    """Once as a trial, once as the anchor of the billing cycle."""
    trial = parameters(parse_catalog(raw(trial_end=LATER)))["subscription_data"]
    assert trial["trial_end"] == LATER
    anchored = parameters(parse_catalog(raw(billing_starts_at=LATER)))["subscription_data"]
    assert (anchored["billing_cycle_anchor"], anchored["proration_behavior"]) == (LATER, "none")
    for passed in (raw(trial_end=EARLIER), raw(billing_starts_at=EARLIER)):
        assert set(parameters(parse_catalog(passed))["subscription_data"]) == {"metadata"}


def test_extra_parameters_pass_through_and_the_buyers_words_stay_the_buyers() -> None:
    """CHK-3, CHK-12."""
    session = {"automatic_tax": {"enabled": True}, "customer_update": {"address": "auto"}, "locale": "de"}
    catalog = parse_catalog({**raw(), "session": session})
    sent = parameters(catalog, client_reference_id="ref", metadata={"campaign": "x"}, quantity=3)
    assert (sent["automatic_tax"], sent["locale"]) == ({"enabled": True}, "de")
    carried = {"campaign": "x", "type": "k", "nonce": "n", "onelane_user": "user_1"}
    assert sent["metadata"] == carried == sent["subscription_data"]["metadata"]
    assert sent["line_items"] == [{"price": "price_1", "quantity": 3}]
    assert sent["client_reference_id"] == "ref"
    assert parameters(catalog)["client_reference_id"] == "user_1"


TRIAL_WITHOUT_CARD = {"trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}}


@pytest.mark.parametrize(
    ("plan", "session", "first_trial", "expected", "collection"),
    [
        ({}, {}, True, {}, None),
        ({"trial_days": 7}, {}, False, {}, None),
        ({"trial_days": 7}, {}, True, {"trial_period_days": 7}, None),
        (
            {"trial_days": 7, "missing_payment_method": "cancel"},
            {},
            True,
            {"trial_period_days": 7, **TRIAL_WITHOUT_CARD},
            "if_required",
        ),
        ({"trial_days": 7, "missing_payment_method": "cancel"}, {}, False, {}, None),
        (
            {"trial_days": 7, "missing_payment_method": "cancel"},
            {"payment_method_collection": "always"},
            True,
            {"trial_period_days": 7, **TRIAL_WITHOUT_CARD},
            "always",
        ),
    ],
)
def test_trial_is_for_who_had_none_and_asks_for_no_card_where_the_plan_says_what_follows(
    plan: Any, session: Any, first_trial: bool, expected: Any, collection: str | None
) -> None:
    """CHK-33, CHK-34; Stripe takes `trial_settings` with a trial only"""
    sent = parameters(parse_catalog({**raw(**plan), "session": session}), first_trial=first_trial)
    data = {name: value for name, value in sent["subscription_data"].items() if name != "metadata"}
    assert (data, sent.get("payment_method_collection")) == (expected, collection)


def test_metered_price_is_sent_without_a_quantity() -> None:
    """CHK-35"""
    sent = parameters(parse_catalog(raw(metered=True)), quantity=None)
    assert sent["line_items"] == [{"price": "price_1"}]


def test_plan_that_left_the_catalog_meanwhile_is_still_sold_at_its_price() -> None:
    """A checkout that was recorded before a deploy is served by what it resolved to on arrival."""
    catalog = parse_catalog({**raw(), "plans": {"q": {**raw()["plans"]["p"], "price": "price_2"}}})
    assert parameters(catalog)["line_items"] == [{"price": "price_1", "quantity": 1}]
