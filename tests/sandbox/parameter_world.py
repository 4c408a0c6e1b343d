"""Where the walk over all parameters takes place: a world with one of everything, and a request that works for each
address.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox import Sandbox
from tests.sandbox.conftest import CATALOG

NOW = 1_780_000_000
DAY = 86400
Ids = dict[str, str]
MONTH = {"interval": "month"}


@dataclass(frozen=True)
class Case:
    """A value, or what makes one of the world's ids; and what has to be sent beside it."""

    given: Any
    beside: Any = None
    shows_only: bool = False  # its only word is what Stripe does anyway: it is shown back

    def value(self, ids: Ids) -> Any:
        return self.given(ids) if callable(self.given) else self.given


def of(name: str) -> Callable[[Ids], str]:
    return lambda ids: ids[name]


def world() -> Sandbox:
    """One of everything, and a second one where a list is filtered."""
    sandbox = Sandbox(clock=lambda: float(NOW), seed="walk")
    sandbox.seed(CATALOG)
    ids: Ids = {}

    def make(name: str, path: str, /, **params: Any) -> dict[str, Any]:
        answer = sandbox.request("POST", path, params)
        assert answer.status == 200, (name, answer.body)
        ids[name] = answer.body["id"]
        return answer.body

    sandbox.seed([{"object": "customer", "id": "cus_cat", "email": "cat@example.com", "card": "pm_card_visa"}])
    ids["second_card_of_cat"] = sandbox.give_card("cus_cat", "pm_card_chargeCustomerFail")["id"]
    ids["card_of_cat"] = sandbox.give_card("cus_cat", "pm_card_visa")["id"]
    make("rate", "/v1/tax_rates", display_name="VAT", percentage=20, inclusive=False)
    make("inactive_rate", "/v1/tax_rates", display_name="Old", percentage=7, inclusive=True, active=False)
    make("product", "/v1/products", name="Another", active=False)
    euros = {"currency": "eur", "unit_amount": 100, "active": False, "lookup_key": "old"}
    make("euros", "/v1/prices", product="prod_claw", recurring=MONTH, **euros)
    make("metered", "/v1/prices", product="prod_claw", currency="usd", unit_amount=3,
         recurring={**MONTH, "usage_type": "metered", "meter": "mtr_1"})  # fmt: skip
    items = [{"price": "price_month"}]
    sub = make("sub", "/v1/subscriptions", customer="cus_ann", items=items, discounts=[{"coupon": "half_once"}])
    ids["item"] = sub["items"]["data"][0]["id"]
    ids["invoice"] = sub["latest_invoice"]
    ids["declining"] = sandbox.request(
        "POST", "/v1/payment_methods/pm_card_chargeCustomerFail/attach", {"customer": "cus_ann"}
    ).body["id"]
    ids["card"] = sandbox.request("GET", "/v1/customers/cus_ann").body["invoice_settings"]["default_payment_method"]
    make("sent", "/v1/subscriptions", customer="cus_cat", items=[{"price": "price_half_year"}],
         collection_method="send_invoice", days_until_due=7)  # fmt: skip
    governed = make("governed", "/v1/subscriptions", customer="cus_cat", items=items, cancel_at_period_end=True)
    make("schedule", "/v1/subscription_schedules", from_subscription=governed["id"])
    later = [{"items": items}]
    make("waiting", "/v1/subscription_schedules", customer="cus_ann", start_date=NOW + 50 * DAY, phases=later)
    make("pending", "/v1/invoiceitems", customer="cus_ann", amount=100, currency="usd")
    make("empty", "/v1/invoices", customer="cus_cat", auto_advance=True)
    make("draft", "/v1/invoices", customer="cus_ann", pending_invoice_items_behavior="include")
    make("later", "/v1/invoiceitems", customer="cus_ann", amount=50, currency="usd")
    make("open", "/v1/invoices", customer="cus_cat")
    make("owed", "/v1/invoiceitems", customer="cus_cat", amount=70, currency="usd", invoice=ids["open"])
    sandbox.request("POST", f"/v1/invoices/{ids['open']}/finalize")
    discounted = make("discounted", "/v1/subscriptions", customer="cus_ann", items=[{"price": "price_half_year"}],
                      discounts=[{"coupon": "all_of_it"}])  # fmt: skip
    ids["discount"] = discounted["discounts"][0]
    make("cbtxn", "/v1/customers/cus_ann/balance_transactions", amount=-10, currency="usd")
    make("second_cbtxn", "/v1/customers/cus_ann/balance_transactions", amount=-10, currency="usd")
    two = [{"price": "price_month"}, {"price": "price_half_year"}]
    ids["two_lines"] = make("two", "/v1/subscriptions", customer="cus_cat", items=two)["latest_invoice"]
    make("link", "/v1/payment_links", line_items=items)
    two = make("old_link", "/v1/payment_links", line_items=[*items, {"price": "price_half_year"}])
    sandbox.request("POST", f"/v1/payment_links/{two['id']}", {"active": False})
    make("portal", "/v1/billing_portal/configurations", features={"invoice_history": {"enabled": True}})
    sandbox.request("GET", "/v1/billing_portal/configurations")
    make("free_card", "/v1/payment_methods", type="card", card={"token": "tok_visa"})
    make("endpoint", "/v1/webhook_endpoints", url="https://example.com/a", enabled_events=["invoice.paid"])
    make("second_endpoint", "/v1/webhook_endpoints", url="https://example.com/b", enabled_events=["*"])
    session = {"mode": "subscription", "success_url": "https://example.com/", "customer": "cus_bob"}
    lines = [{"price": "price_month", "quantity": 1}, {"price": "price_half_year", "quantity": 1}]
    make("session", "/v1/checkout/sessions", **session, line_items=lines)
    paid = make("paid", "/v1/checkout/sessions", **session, line_items=lines[:1])
    ids["paid_sub"] = sandbox.pay(paid["id"])["subscription"]
    once = {"mode": "payment", "success_url": "https://example.com/", "customer": "cus_bob"}
    make("once", "/v1/checkout/sessions", **once, line_items=[{"price": "price_once", "quantity": 1}])
    ids["intent"] = sandbox.pay(ids["once"])["payment_intent"]
    undisputed = make("bought", "/v1/checkout/sessions", **once, line_items=[{"price": "price_once", "quantity": 1}])
    ids["undisputed_intent"] = sandbox.pay(undisputed["id"])["payment_intent"]
    newest = sandbox.request("GET", "/v1/charges").body["data"]
    ids["undisputed"], charges = newest[0]["id"], newest[1:]
    ids["charge"], ids["other_charge"] = charges[0]["id"], charges[1]["id"]
    make("clock", "/v1/test_helpers/test_clocks", frozen_time=NOW)
    make("other_clock", "/v1/test_helpers/test_clocks", frozen_time=NOW)
    make("waiting_intent", "/v1/payment_intents", amount=5, currency="usd")
    make("setup", "/v1/setup_intents", customer="cus_ann", payment_method=ids["card"])
    make("other_setup", "/v1/setup_intents", customer="cus_cat", payment_method=ids["card_of_cat"])
    make("code", "/v1/promotion_codes", promotion={"type": "coupon", "coupon": "half_once"}, customer="cus_cat")
    make("other_code", "/v1/promotion_codes", promotion={"type": "coupon", "coupon": "all_of_it"}, active=False)
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    make("paused", "/v1/subscriptions", customer="cus_bob", items=items, trial_period_days=9, trial_settings=settings)
    assert (
        sandbox.request("POST", f"/v1/subscriptions/{ids['paused']}", {"trial_end": "now"}).body["status"] == "paused"
    )
    make("refund", "/v1/refunds", charge=ids["charge"], amount=10)
    make("other_refund", "/v1/refunds", charge=ids["other_charge"], amount=10)
    for name in ("charge", "other_charge"):
        ids["dispute"] = sandbox.dispute(ids[name])["id"]
    ids["payment"] = sandbox.request("GET", "/v1/invoice_payments").body["data"][0]["id"]
    ids["event"] = sandbox.request("GET", "/v1/events").body["data"][0]["id"]
    sandbox.store.put("setting", {"id": "walk", "ids": ids})
    return sandbox


def ids_of(sandbox: Sandbox) -> Ids:
    return dict((sandbox.store.get("setting", "walk") or {})["ids"])


# The object that `{id}` stands for: by the beginning of the path, or by the whole address.
_PATH_IDS = {
    "POST /v1/subscriptions/{id}/resume": "paused",
    "POST /v1/invoices/{id}/finalize": "draft",
    "DELETE /v1/invoices/{id}": "draft",
    "POST /v1/invoices/{id}/": "open",
    "POST /v1/invoices/{id}": "draft",
    "GET /v1/invoices/{id}/lines": "two_lines",
    "DELETE /v1/invoiceitems/{id}": "later",
    "POST /v1/payment_methods/{id}/attach": "free_card",
    "GET /v1/payment_links/{id}/line_items": "old_link",
    "/v1/billing_portal/configurations": "portal",
    "/v1/charges": "charge",
    "/v1/checkout/sessions": "session",
    "/v1/coupons": "=half_once",
    "/v1/customers": "=cus_ann",
    "/v1/disputes": "dispute",
    "/v1/events": "event",
    "/v1/invoice_payments": "payment",
    "/v1/invoiceitems": "pending",
    "/v1/invoices": "invoice",
    "POST /v1/payment_intents/{id}/": "waiting_intent",
    "/v1/payment_intents": "intent",
    "/v1/payment_links": "link",
    "/v1/payment_methods": "card",
    "/v1/prices": "=price_month",
    "/v1/products": "=prod_claw",
    "/v1/promotion_codes": "code",
    "/v1/refunds": "refund",
    "/v1/setup_intents": "setup",
    "/v1/subscription_schedules": "schedule",
    "/v1/subscriptions": "sub",
    "/v1/tax_rates": "rate",
    "/v1/test_helpers/test_clocks": "clock",
    "/v1/webhook_endpoints": "endpoint",
}


def path_id(address: str, ids: Ids) -> str:
    for beginning, name in _PATH_IDS.items():
        if address.startswith(beginning) or address.partition(" ")[2].startswith(beginning):
            return name[1:] if name.startswith("=") else ids[name]
    return "x"


_ITEMS = {"0": {"price": "price_month"}}
_SESSION = {
    "mode": "subscription",
    "customer": "cus_bob",
    "line_items": {"0": {"price": "price_month", "quantity": "1"}},
    "success_url": "https://example.com/done",
}
_PHASE = {"items": _ITEMS, "duration": {"interval": "month", "interval_count": "1"}}
BASES = {
    "GET /v1/subscription_items": Case(lambda ids: {"subscription": ids["two"]}),
    "POST /v1/billing_portal/configurations": Case({"features": {"invoice_history": {"enabled": "true"}}}),
    "POST /v1/billing_portal/sessions": Case({"customer": "cus_ann"}),
    "POST /v1/checkout/sessions": Case(_SESSION),
    "POST /v1/coupons": Case({"percent_off": "5", "id": "five"}),
    "POST /v1/customers/{id}/balance_transactions": Case({"amount": "-5", "currency": "usd"}),
    "POST /v1/invoiceitems": Case({"customer": "cus_ann", "amount": "10", "currency": "usd"}),
    "POST /v1/invoices": Case({"customer": "cus_ann"}),
    "POST /v1/payment_links": Case({"line_items": _ITEMS}),
    "POST /v1/payment_methods": Case({"type": "card", "card": {"token": "tok_visa"}}),
    "POST /v1/payment_methods/{id}/attach": Case({"customer": "cus_bob"}),
    "POST /v1/payment_intents": Case({"amount": "5", "currency": "usd"}),
    "POST /v1/payment_intents/{id}/confirm": Case({"payment_method": "pm_card_visa"}),
    "POST /v1/prices": Case(
        {"currency": "usd", "unit_amount": "5", "product": "prod_claw", "recurring": {"interval": "month"}}
    ),
    "POST /v1/products": Case({"name": "New"}),
    "POST /v1/promotion_codes": Case({"promotion": {"type": "coupon", "coupon": "all_of_it"}}),
    "POST /v1/refunds": Case(lambda ids: {"charge": ids["undisputed"]}),
    "POST /v1/subscription_schedules": Case({"customer": "cus_cat", "phases": {"0": _PHASE}}),
    "POST /v1/subscription_schedules/{id}": Case(
        {"phases": {"0": {"items": _ITEMS, "start_date": str(NOW), "duration": {"interval": "month"}}}}
    ),
    "POST /v1/subscriptions": Case({"customer": "cus_cat", "items": _ITEMS}),
    "POST /v1/tax_rates": Case({"display_name": "VAT", "percentage": "5", "inclusive": "false"}),
    "POST /v1/test_helpers/test_clocks": Case({"frozen_time": str(NOW)}),
    "POST /v1/test_helpers/test_clocks/{id}/advance": Case({"frozen_time": str(NOW + DAY)}),
    "POST /v1/webhook_endpoints": Case({"url": "https://example.com/c", "enabled_events": {"0": "invoice.paid"}}),
}
