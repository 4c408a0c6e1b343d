"""What an invoice comes to: coupons, tax, credit, periods, prorations, paused collection."""

from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.amounts import taken_off
from tests.sandbox.buying import DAY, MONTH, done, get, latest, price, subscribe


@pytest.mark.parametrize(
    ("off", "amounts", "shares"),
    [
        (300, [1000, 1000], [150, 150]),
        (100, [1, 1, 1], [1, 1, 1]),
        (100, [100, 100, 100], [33, 34, 33]),
        (5000, [1000, 500], [1000, 500]),
        (300, [1000, -200], [300, 0]),
        (1, [0, 0], [0, 0]),
    ],
)
def test_a_fixed_amount_is_spread_to_the_cent(off: int, amounts: list[int], shares: list[int]) -> None:
    """SBX-71"""
    assert taken_off({"percent_off": None, "amount_off": off}, amounts) == shares


def test_a_fixed_amount_is_taken_off_the_invoice_once(sandbox: Sandbox, params: Any) -> None:
    """SBX-71: 300 off two lines of 1,000 is 1,700, in Checkout and by the API"""
    first, second = price(sandbox, 1000), price(sandbox, 1000)
    coupon = done(sandbox, "/v1/coupons", amount_off=300, currency="usd", duration="forever")["id"]
    made = subscribe(sandbox, first, second, discounts=[{"coupon": coupon}])
    invoice = latest(sandbox, made)
    assert (invoice["subtotal"], invoice["total"], invoice["amount_paid"]) == (2000, 1700, 1700)
    assert [line["discount_amounts"][0]["amount"] for line in invoice["lines"]["data"]] == [150, 150]
    lines = [{"price": one, "quantity": 1} for one in (first, second)]
    session = done(sandbox, "/v1/checkout/sessions", **params(line_items=lines, discounts=[{"coupon": coupon}]))
    assert (session["amount_total"], session["total_details"]["amount_discount"]) == (1700, 300)


def test_a_repeating_coupon_ends_with_its_months(sandbox: Sandbox) -> None:
    """SBX-71"""
    coupon = done(sandbox, "/v1/coupons", percent_off=50, duration="repeating", duration_in_months=2)["id"]
    made = subscribe(sandbox, discounts=[{"coupon": coupon}])
    paid = [latest(sandbox, made)["total"]]
    for _ in range(2):
        sandbox.advance(31 * DAY)
        paid.append(latest(sandbox, made)["total"])
    assert paid == [450, 450, 900]
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["discounts"] == []


def test_an_item_has_its_own_discounts_and_tax_rates(sandbox: Sandbox) -> None:
    """SBX-79"""
    rates = [
        done(sandbox, "/v1/tax_rates", display_name="VAT", percentage=percentage, inclusive=inclusive)["id"]
        for percentage, inclusive in ((20, False), (25, True))
    ]
    plan, addon = price(sandbox, 1000), price(sandbox, 500)
    half = done(sandbox, "/v1/coupons", percent_off=50, duration="forever")["id"]
    items = [
        {"price": plan, "tax_rates": [rates[0]], "discounts": [{"coupon": half}], "metadata": {"seat": "a"}},
        {"price": addon, "tax_rates": [rates[1]]},
    ]
    made = done(sandbox, "/v1/subscriptions", customer="cus_ann", items=items)
    first, second = made["items"]["data"]
    assert ([rate["id"] for rate in first["tax_rates"]], first["metadata"]) == ([rates[0]], {"seat": "a"})
    invoice = latest(sandbox, made)
    assert [tax["amount"] for tax in invoice["total_taxes"]] == [100, 100]  # 20% on 500; 25% within 500
    assert (invoice["subtotal"], invoice["total"], invoice["total_excluding_tax"]) == (1500, 1100, 900)
    removed = done(sandbox, f"/v1/subscriptions/{made['id']}", items=[{"id": first["id"], "discounts": ""}])
    assert (removed["items"]["data"][0]["discounts"], second["discounts"]) == ([], [])


def test_a_metered_item_has_no_quantity(sandbox: Sandbox) -> None:
    """SBX-79"""
    metered = price(sandbox, 5, recurring={**MONTH, "usage_type": "metered", "meter": "mtr_1"})
    made = subscribe(sandbox, "price_month", metered)
    assert "quantity" not in made["items"]["data"][1]
    assert latest(sandbox, made)["total"] == 900
    refused = sandbox.request(
        "POST", "/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": metered, "quantity": 1}]}
    )
    assert (refused.status, refused.body["error"]["param"]) == (400, "items[0][quantity]")


def test_each_item_has_its_own_period(sandbox: Sandbox) -> None:
    """SBX-79, SBX-32"""
    made = subscribe(sandbox, "price_half_year", "price_month")
    plan, addon = made["items"]["data"]
    assert plan["current_period_end"] > addon["current_period_end"]
    assert latest(sandbox, made)["total"] == 5700
    sandbox.set_clock(addon["current_period_end"] + 1)
    after = get(sandbox, f"/v1/subscriptions/{made['id']}")["items"]["data"]
    assert after[0]["current_period_end"] == plan["current_period_end"]
    assert after[1]["current_period_start"] == addon["current_period_end"]
    assert latest(sandbox, made)["total"] == 900


def test_the_end_of_a_period_is_the_earliest_or_the_latest_as_asked(sandbox: Sandbox) -> None:
    """SBX-83"""
    made = subscribe(sandbox, "price_half_year", "price_month")
    path = f"/v1/subscriptions/{made['id']}"
    first, last = sorted(item["current_period_end"] for item in made["items"]["data"])[::1]
    assert done(sandbox, path, cancel_at="min_period_end")["cancel_at"] == first
    assert done(sandbox, path, cancel_at="max_period_end")["cancel_at"] == last
    at_end = done(sandbox, path, cancel_at_period_end=True)
    assert (at_end["cancel_at"], at_end["cancel_at_period_end"]) == (first, True)
    taken_back = done(sandbox, path, cancel_at="")
    assert (taken_back["cancel_at"], taken_back["cancel_at_period_end"]) == (None, False)
    classic = subscribe(sandbox, billing_mode={"type": "classic"})
    refused = sandbox.request("POST", f"/v1/subscriptions/{classic['id']}", {"cancel_at": "min_period_end"})
    assert refused.status == 400


def test_credit_pays_before_the_card_does(sandbox: Sandbox) -> None:
    """SBX-76"""
    made = subscribe(sandbox)
    given = done(sandbox, "/v1/customers/cus_ann/balance_transactions", amount=-1000, currency="usd")
    assert (given["ending_balance"], given["type"]) == (-1000, "adjustment")
    charges = len(sandbox.store.all("charge"))
    sandbox.advance(31 * DAY)
    invoice = latest(sandbox, made)
    assert (invoice["status"], invoice["total"], invoice["amount_due"], invoice["amount_paid"]) == ("paid", 900, 0, 0)
    assert (invoice["starting_balance"], invoice["ending_balance"]) == (-1000, -100)
    assert len(sandbox.store.all("charge")) == charges
    sandbox.advance(31 * DAY)
    invoice = latest(sandbox, made)
    assert (invoice["amount_due"], invoice["amount_paid"], invoice["ending_balance"]) == (800, 800, 0)
    listed = get(sandbox, "/v1/customers/cus_ann/balance_transactions")["data"]
    assert [(one["type"], one["amount"], one["ending_balance"]) for one in listed] == [
        ("applied_to_invoice", 100, 0),
        ("applied_to_invoice", 900, -100),
        ("adjustment", -1000, -1000),
    ]
    assert listed[0]["invoice"] == invoice["id"]


def test_a_voided_invoice_gives_its_credit_back(sandbox: Sandbox) -> None:
    """SBX-76"""
    done(sandbox, "/v1/customers/cus_ann", balance=-100)
    made = subscribe(sandbox, payment_behavior="default_incomplete")
    assert get(sandbox, "/v1/customers/cus_ann")["balance"] == 0
    voided = done(sandbox, f"/v1/invoices/{made['latest_invoice']}/void")
    assert (voided["status"], voided["status_transitions"]["voided_at"] is None) == ("void", False)
    assert get(sandbox, "/v1/customers/cus_ann")["balance"] == -100


def test_invoice_by_mail_is_past_due_once_its_date_has_come(sandbox: Sandbox) -> None:
    """SBX-105"""
    made = subscribe(sandbox, collection_method="send_invoice", days_until_due=10)
    sent = latest(sandbox, made)
    assert (sent["status"], sent["due_date"]) == ("open", sent["created"] + 10 * DAY)
    path = f"/v1/subscriptions/{made['id']}"
    sandbox.advance(9 * DAY)
    assert get(sandbox, path)["status"] == "active"
    sandbox.advance(2 * DAY)
    assert get(sandbox, path)["status"] == "past_due"
    assert len(sandbox.store.all("charge")) == 0
    done(sandbox, f"/v1/invoices/{sent['id']}/pay", paid_out_of_band=True)
    assert get(sandbox, path)["status"] == "active"


@pytest.mark.parametrize("verb", ["void", "mark_uncollectible"])
@pytest.mark.parametrize("after", ["past_due", "unpaid"])
def test_invoice_that_is_given_up_leaves_the_subscription_active(sandbox: Sandbox, verb: str, after: str) -> None:
    """SBX-104: while no other one is open."""
    made = subscribe(sandbox)
    for card in sandbox.store.all("payment_method"):
        sandbox.card_answers(card["id"], "generic_decline")
    sandbox.settings(after_retries=after)
    path = f"/v1/subscriptions/{made['id']}"
    sandbox.advance(62 * DAY)
    assert get(sandbox, path)["status"] == after
    [*later, renewal] = [one["id"] for one in sandbox.store.newest_first("invoice") if one["status"] == "open"]
    for id in later:
        done(sandbox, f"/v1/invoices/{id}/void")
        assert get(sandbox, path)["status"] == after
    done(sandbox, f"/v1/invoices/{renewal}/{verb}")
    assert get(sandbox, path)["status"] == "active"


def test_invoice_that_was_given_up_can_be_paid_all_the_same(sandbox: Sandbox) -> None:
    """SBX-104: one that is void cannot."""
    made = subscribe(sandbox, collection_method="send_invoice", days_until_due=5)
    path = f"/v1/invoices/{made['latest_invoice']}"
    done(sandbox, f"{path}/mark_uncollectible")
    assert done(sandbox, f"{path}/pay", paid_out_of_band="true")["status"] == "paid"
    other = done(sandbox, "/v1/invoices", customer=made["customer"], collection_method="send_invoice")
    done(sandbox, "/v1/invoiceitems", customer=made["customer"], invoice=other["id"], amount=100, currency="usd")
    done(sandbox, f"/v1/invoices/{other['id']}/finalize")
    done(sandbox, f"/v1/invoices/{other['id']}/void")
    assert sandbox.request("POST", f"/v1/invoices/{other['id']}/pay", {}).status == 400


@pytest.mark.parametrize(
    ("behavior", "status"), [("keep_as_draft", "draft"), ("mark_uncollectible", "uncollectible"), ("void", "void")]
)
def test_a_paused_collection_charges_nothing_until_it_resumes(sandbox: Sandbox, behavior: str, status: str) -> None:
    """SBX-78"""
    made = subscribe(sandbox)
    resumes_at = made["items"]["data"][0]["current_period_end"] + 5 * DAY
    path = f"/v1/subscriptions/{made['id']}"
    paused = done(sandbox, path, pause_collection={"behavior": behavior, "resumes_at": resumes_at})
    assert paused["pause_collection"] == {"behavior": behavior, "resumes_at": resumes_at}
    sandbox.set_clock(made["items"]["data"][0]["current_period_end"] + 1)
    now = get(sandbox, path)
    assert (now["status"], latest(sandbox, made)["status"]) == ("active", status)
    assert len(sandbox.store.all("charge")) == 1
    sandbox.set_clock(resumes_at + 1)
    assert get(sandbox, path)["pause_collection"] is None
    sandbox.advance(31 * DAY)
    assert latest(sandbox, made)["status"] == "paid"


@pytest.mark.parametrize(
    ("behavior", "now", "later"), [("none", 1, 900), ("create_prorations", 1, 1350), ("always_invoice", 2, 900)]
)
def test_a_change_in_the_middle_of_a_period_is_prorated_as_asked(
    sandbox: Sandbox, behavior: str, now: int, later: int
) -> None:
    """SBX-77"""
    made = subscribe(sandbox)
    [item] = made["items"]["data"]
    sandbox.set_clock((item["current_period_start"] + item["current_period_end"]) / 2)
    changes = {"items": [{"id": item["id"], "quantity": 2}], "proration_behavior": behavior}
    done(sandbox, f"/v1/subscriptions/{made['id']}", **changes)
    assert len(sandbox.store.all("invoice")) == now
    if behavior == "always_invoice":
        invoice = latest(sandbox, made)
        assert (invoice["billing_reason"], invoice["total"]) == ("subscription_update", 450)
        assert [line["amount"] for line in invoice["lines"]["data"]] == [-450, 900]
    sandbox.set_clock(item["current_period_end"] + 1)
    assert latest(sandbox, made)["total"] == later + 900


def test_an_invoice_can_be_made_by_hand_beside_the_periods_one(sandbox: Sandbox) -> None:
    """SBX-77"""
    made = subscribe(sandbox)
    done(sandbox, "/v1/invoiceitems", customer="cus_ann", amount=250, currency="usd", subscription=made["id"])
    asked = {"customer": "cus_ann", "subscription": made["id"], "pending_invoice_items_behavior": "include"}
    draft = done(sandbox, "/v1/invoices", **asked)
    assert (draft["status"], draft["billing_reason"], draft["total"]) == ("draft", "manual", 250)
    opened = done(sandbox, f"/v1/invoices/{draft['id']}/finalize")
    assert opened["status_transitions"]["finalized_at"] is not None
    paid = done(sandbox, f"/v1/invoices/{draft['id']}/pay")
    assert (paid["status"], paid["amount_paid"]) == ("paid", 250)
    assert latest(sandbox, made)["id"] == draft["id"]
    listed = sandbox.request("GET", "/v1/invoices", {"subscription": made["id"], "status": "paid"}).body["data"]
    assert [one["total"] for one in listed] == [250, 900]


def test_ten_items_and_ten_lines_are_shown_and_the_rest_is_asked_for(sandbox: Sandbox) -> None:
    """SBX-170"""
    made = subscribe(sandbox, *(price(sandbox, 100 + number) for number in range(12)))
    invoice = latest(sandbox, made)
    every = {"subscription": made["id"], "limit": 100}
    items = sandbox.request("GET", "/v1/subscription_items", every).body
    lines = sandbox.request("GET", f"/v1/invoices/{invoice['id']}/lines", {"limit": 100}).body
    for shown, whole in ((made["items"], items), (invoice["lines"], lines)):
        assert (len(shown["data"]), shown["has_more"]) == (10, True)
        assert (len(whole["data"]), whole["has_more"]) == (12, False)
        assert whole["data"][:10] == shown["data"]
    after = every | {"starting_after": made["items"]["data"][-1]["id"]}
    assert sandbox.request("GET", "/v1/subscription_items", after).body["data"] == items["data"][10:]
    done(sandbox, f"/v1/subscriptions/{made['id']}", metadata={"a": "b"})
    changed = next(sandbox.store.newest_first("event"))["data"]["previous_attributes"]
    assert list(changed) == ["metadata"], "what is not shown has not changed"
