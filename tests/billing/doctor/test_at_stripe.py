"""What `onelane doctor` finds at Stripe: each finding names what is wrong and its fix (habit 8)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.catalog import Catalog, parse_catalog
from billing.customers.customers import claim_customer
from billing.doctor.buying import USER, examine_buying
from billing.doctor.currencies import examine_currencies
from billing.doctor.examine import examine
from billing.doctor.finding import Finding, Verdict
from billing.doctor.portal import examine_portal
from billing.doctor.prices import examine_prices
from billing.operators.audit import list_audit
from billing.operators.listing import Wanted
from billing.process.settings import load_settings
from billing.stripe_gateway import GatewayClient
from tests.support.databases import sqlite_in
from tests.support.ports import own_port
from tests.support.reconcile_world import Shop
from tests.support.running_dev import ROOT

SETTINGS = load_settings(redirect_origins="https://app.example.com", _env_file=None)


class Place(Shop):
    """A shop whose Stripe and catalog are set up wrongly."""

    stripe: GatewayClient

    def sells(self, *, plan: dict[str, Any] | None = None, **tables: Any) -> None:
        """From here on, with a catalog of one plan that differs so."""
        standard = {"name": "Standard", "price": "price_kiloclaw_standard", "interval": "month", **(plan or {})}
        raw = {"product": {"key": "kiloclaw"}, "plans": {"standard": standard}, **tables}
        self.catalog = parse_catalog(raw)

    def price(self, id: str = "price_other", **fields: Any) -> dict[str, Any]:
        """A price at Stripe, as a plan names it."""
        one = {"object": "price", "id": id, "currency": "usd", "unit_amount": 900, "product": "prod_kiloclaw"}
        self.sandbox.seed([{**one, "recurring": {"interval": "month"}, **fields}])
        return {"price": id}

    def call(self, path: str, **params: Any) -> dict[str, Any]:
        """The operator changes something at Stripe."""
        answer = self.sandbox.request("POST", f"/v1/{path}", params)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def found(self) -> list[Finding]:
        """All that is found at Stripe."""
        currencies: set[str] = set()
        return [
            *examine_prices(self.catalog, self.stripe, currencies=currencies),
            *examine_portal(self.catalog, self.stripe),
            *examine_currencies(currencies, self.stripe, database=self.database),
            *examine_buying(self.catalog, self.stripe, settings=SETTINGS),
        ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """On SQLite: what is asked of Stripe is the same on PostgreSQL."""
    with sqlite_in(tmp_path) as database:
        yield Place(database)


def _metered(place: Place) -> None:
    place.sells(plan=place.price(recurring={"interval": "month", "usage_type": "metered", "meter": "mtr_1"}))


def _licensed(place: Place) -> None:
    place.sells(plan={**place.price(), "metered": True})


def _other_currency(place: Place) -> None:
    customer = place.call("customers")["id"]
    place.call(f"customers/{customer}/balance_transactions", amount="-100", currency="eur")
    claim_customer("ann", customer, database=place.database, clock=place.clock)


def _switches_elsewhere(place: Place) -> None:
    place.price("price_gold", product="prod_gold")
    products = [{"product": "prod_gold", "prices": ["price_gold"]}]
    update = {"enabled": True, "products": products, "default_allowed_updates": ["price"]}
    portal = place.call("billing_portal/configurations", features={"subscription_update": update})
    place.sells(portal={"configuration": portal["id"]})


def _default_portal(place: Place, **features: Any) -> None:
    shown = place.sandbox.request("GET", "/v1/billing_portal/configurations", {"is_default": "true"}).body["data"]
    place.call(f"billing_portal/configurations/{shown[0]['id']}", features=features)


def _inactive_portal(place: Place) -> None:
    features = {"invoice_history": {"enabled": True}}
    portal = place.call("billing_portal/configurations", features=features)["id"]
    place.call(f"billing_portal/configurations/{portal}", active=False)
    place.sells(portal={"configuration": portal})


def _no_origin(place: Place) -> None:
    place.sandbox.settings(tax="no_origin")
    place.sells(session={"automatic_tax": {"enabled": True}, "customer_update": {"address": "auto"}})


def _spent_coupon(place: Place) -> None:
    place.sandbox.seed([{"object": "coupon", "id": "spent", "percent_off": 50, "duration": "once"}])
    place.sandbox.store.change("coupon", "spent", valid=False)
    place.sells(plan={"coupon": "spent"})


def _other_coupon(place: Place) -> None:
    place.sandbox.seed([{"object": "coupon", "id": "half", "percent_off": 50, "duration": "once"}])
    place.sells(plan={"coupon": "half", "coupon_amount_off": 500})


def _euro_coupon(place: Place) -> None:
    place.sandbox.seed([{"object": "coupon", "id": "in_eur", "amount_off": 100, "currency": "eur", "duration": "once"}])
    place.sells(plan={"coupon": "in_eur"})


WRONG: dict[str, tuple[Callable[[Place], object], Verdict, str, str]] = {
    # how it is made, what is said of it, and the fix
    "metered price, sold with a quantity": (_metered, Verdict.WRONG, "is metered", "Set metered = true"),
    "licensed price, sold as metered": (_licensed, Verdict.WRONG, "is not metered", "Take metered = true out"),
    "customer in another currency": (_other_currency, Verdict.WARNING, "billed in EUR", "Sell a plan in EUR"),
    "portal never saved": (
        lambda place: place.sandbox.settings(portal="never_saved"),
        Verdict.WRONG, "never saved", "Save it once at https://dashboard.stripe.com/",
    ),
    "portal configuration of another account": (
        lambda place: place.sells(portal={"configuration": "bpc_1"}),
        Verdict.WRONG, "no portal configuration bpc_1", "Set the right id in [portal]",
    ),
    "portal configuration that is switched off": (_inactive_portal, Verdict.WRONG, "not active", "Activate it"),
    "portal that cancels at once": (
        lambda place: _default_portal(place, subscription_cancel={"enabled": True, "mode": "immediately"}),
        Verdict.WARNING, "account's default portal lets buyers cancel at once", "Let it cancel at the end",
    ),
    "portal that sells other products": (
        _switches_elsewhere, Verdict.WARNING, "switch to price_gold, which the catalog does not sell", "Take these"
    ),
    "no such price": (
        lambda place: place.sells(plan={"price": "price_none"}), Verdict.WRONG, "no price price_none", "Set the right"
    ),
    "archived price": (
        lambda place: place.call("prices/price_kiloclaw_standard", active=False),
        Verdict.WRONG, "is archived", "Unarchive it",
    ),
    "price that is paid once": (
        lambda place: place.sells(plan=place.price(recurring=None)),
        Verdict.WRONG, "not recurring", "Set a recurring price",
    ),
    "other interval": (
        lambda place: place.sells(plan={"interval": "year"}),
        Verdict.WRONG, "billed every 1 month, the catalog says every 1 year", "Set interval",
    ),
    "other currency than shown": (
        lambda place: place.sells(plan={"currency": "eur"}), Verdict.WRONG, "shows eur", 'Set currency = "usd"'
    ),
    "other amount than shown": (
        lambda place: place.sells(plan={"amount": 1, "currency": "usd"}), Verdict.WARNING, "shows 1", "Set amount"
    ),
    "price of another product": (
        lambda place: place.sells(plan={"stripe_product": "prod_gold"}),
        Verdict.WARNING, "belongs to prod_kiloclaw", 'Set stripe_product = "prod_kiloclaw"',
    ),
    "former price that is not there": (
        lambda place: place.sells(plan={"former_prices": ["price_old"]}),
        Verdict.WRONG, "no price price_old of former_prices", "Set the right id",
    ),
    "coupon that is over": (_spent_coupon, Verdict.WRONG, "spent is not valid", "Set another"),
    "coupon that takes off something else": (_other_coupon, Verdict.WARNING, "takes off 50", "Set coupon_amount_off"),
    "coupon that does not fit the price": (_euro_coupon, Verdict.WRONG, "Stripe refused", "Without the coupon it is"),
    "automatic tax without an origin": (
        _no_origin, Verdict.WRONG, "valid origin address", "set it at https://dashboard.stripe.com/settings/tax"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_refused_to_buyers_is_named_with_its_fix(place: Place, name: str) -> None:
    """OPS-90, OPS-92"""
    make, verdict, said, fix = WRONG[name]
    assert {finding.verdict for finding in place.found()} == {Verdict.OK}, "nothing was wrong before"
    make(place)
    named = [finding for finding in place.found() if said in finding.sentence]
    assert [finding.verdict for finding in named] == [verdict], place.found()
    assert fix in named[0].sentence
    assert "\n" not in named[0].sentence


def test_nothing_stays_of_what_was_tried(place: Place) -> None:
    """OPS-91"""
    place.sells(plan={"trial_days": 14, "missing_payment_method": "cancel", "min_quantity": 2, "max_quantity": 9})
    assert [finding.verdict for finding in examine_buying(place.catalog, place.stripe, settings=SETTINGS)] == ["ok"]
    [session] = place.sessions()
    assert (session["status"], session["metadata"]["onelane_user"]) == ("expired", USER)
    assert session["payment_method_collection"] == "if_required", "with the trial, which needs no card"
    assert session["_lines"][0]["quantity"] == 2
    assert [one.get("deleted") for one in place.objects("customer")] == [True]


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
def test_page_whose_answer_was_lost_is_payable_by_nobody_for_long(place: Place, kind: str) -> None:
    """OPS-91"""
    place.sandbox.faults.add(kind, path="/v1/checkout/sessions", method="POST")
    with pytest.raises(Exception, match="did not answer"):
        list(examine_buying(place.catalog, place.stripe, settings=SETTINGS))
    assert all(one.get("deleted") for one in place.objects("customer"))
    place.clock.advance(minutes=36)
    assert place.sessions("open") == []


def test_customers_of_others_are_not_named(place: Place) -> None:
    """OPS-92"""
    customer = place.call("customers")["id"]
    place.call(f"customers/{customer}/balance_transactions", amount="-100", currency="eur")
    [finding] = examine_currencies({"usd"}, place.stripe, database=place.database)
    assert finding.verdict is Verdict.OK


def test_account_of_many_customers_is_read_in_part(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-92: the finding says of how many it speaks."""
    monkeypatch.setattr("billing.doctor.currencies.MOST_PAGES", 1)
    place.sandbox.seed({"object": "customer", "id": f"cus_{number}"} for number in range(101))
    [finding] = examine_currencies({"usd"}, place.stripe, database=place.database)
    assert "100 customers (newest)" in finding.sentence


def test_catalog_of_two_currencies_is_named(place: Place) -> None:
    """OPS-90"""
    two: dict[str, Any] = {"name": "E", **place.price("price_eur", currency="eur"), "interval": "month"}
    plans = {"standard": {"name": "S", "price": "price_kiloclaw_standard", "interval": "month"}, "euro": two}
    place.catalog = Catalog.model_validate(parse_catalog({"product": {"key": "kiloclaw"}, "plans": plans}))
    assert any("a switch between them is refused" in finding.sentence for finding in place.found())


def test_price_of_several_currencies_is_sold_in_each(place: Place) -> None:
    """OPS-90, OPS-92: neither its customers nor a switch are in the way."""
    euros = {
        "custom_unit_amount": None,
        "tax_behavior": "unspecified",
        "unit_amount": 800,
        "unit_amount_decimal": "800",
    }
    place.sells(plan=place.price("price_both", currency_options={"eur": euros}))
    _other_currency(place)
    assert not any("are billed in EUR" in finding.sentence for finding in place.found())


def test_trial_sale_is_in_the_audit_log(place: Place) -> None:
    """OPS-142: it makes a customer and pages at Stripe. What is only read leaves no row."""
    settings = load_settings(
        database_url=str(place.database.url),
        redis_url=f"redis://127.0.0.1:{own_port()}/0",
        redirect_origins="https://app.example.com",
        catalog=str(ROOT / "catalog.toml"),
        _env_file=None,
    )
    list(examine(settings, stripe=place.stripe, tries=False))
    assert list_audit(Wanted(9), database=place.database) == []
    [said] = [one for one in examine(settings, stripe=place.stripe, tries=True) if one.subject == "buying"]
    (row,) = list_audit(Wanted(9), database=place.database)
    assert (row["command"], row["outcome"]) == ("doctor", said.sentence)
    assert "standard" in row["target"]
