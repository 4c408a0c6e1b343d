"""Which card is charged, and what it decides: first payments, renewals, trials without one, refunds."""

from typing import Any

import pytest

from sandbox import Sandbox
from tests.sandbox.buying import DAY, done, get, latest, subscribe, types


def test_what_is_due_needs_a_card(sandbox: Sandbox) -> None:
    """SBX-72"""
    asked = {"customer": "cus_bob", "items": [{"price": "price_month"}]}
    refused = sandbox.request("POST", "/v1/subscriptions", asked)
    assert (refused.status, refused.body["error"]["code"]) == (400, "resource_missing")
    assert sandbox.store.all("charge") == []
    trial = done(sandbox, "/v1/subscriptions", **asked, trial_period_days=7)
    assert trial["status"] == "trialing"
    assert done(sandbox, "/v1/subscriptions", **asked, payment_behavior="default_incomplete")["status"] == "incomplete"
    sent = done(sandbox, "/v1/subscriptions", **asked, collection_method="send_invoice", days_until_due=7)
    invoice = latest(sandbox, sent)
    assert (sent["status"], invoice["status"]) == ("active", "open")
    card = done(sandbox, "/v1/payment_methods/pm_card_visa/attach", customer="cus_bob")
    assert card["id"] != "pm_card_visa"
    assert sandbox.request("POST", "/v1/subscriptions", asked).status == 400  # attached is not yet the default
    paid = done(sandbox, "/v1/subscriptions", **asked, default_payment_method=card["id"])
    assert (paid["status"], latest(sandbox, paid)["status"]) == ("active", "paid")


@pytest.mark.parametrize(
    ("behavior", "status", "kind"),
    [
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("pause", "paused", "customer.subscription.paused"),
        ("create_invoice", "past_due", "invoice.payment_failed"),
    ],
)
def test_a_trial_without_a_card_ends_as_it_was_told(sandbox: Sandbox, behavior: str, status: str, kind: str) -> None:
    """SBX-75"""
    made = done(
        sandbox,
        "/v1/subscriptions",
        customer="cus_bob",
        items=[{"price": "price_month"}],
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )
    sandbox.advance(8 * DAY)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == status
    assert kind in types(sandbox)[:4]
    assert sandbox.store.all("charge") == []


def test_a_trial_by_checkout_asks_for_a_card_only_where_it_must(sandbox: Sandbox, params: Any) -> None:
    """SBX-75, SBX-72"""
    data = {"trial_period_days": 7, "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}}
    for collection, cards in (("if_required", 0), ("always", 1)):
        asked = params(customer="cus_bob", subscription_data=data, payment_method_collection=collection)
        session = sandbox.pay(done(sandbox, "/v1/checkout/sessions", **asked)["id"])
        made = get(sandbox, f"/v1/subscriptions/{session['subscription']}")
        assert made["trial_settings"] == data["trial_settings"]
        assert (made["default_payment_method"] is not None) == bool(cards)
    sandbox.advance(8 * DAY)
    statuses = [one["status"] for one in sandbox.store.newest_first("subscription")]
    assert statuses == ["active", "canceled"]


def test_a_renewal_fails_by_the_card_and_is_tried_again(sandbox: Sandbox) -> None:
    """SBX-73, SBX-74"""
    made = subscribe(sandbox)
    declining = sandbox.give_card("cus_ann", "pm_card_chargeCustomerFail")
    end = made["items"]["data"][0]["current_period_end"]
    sandbox.set_clock(end + 1)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "past_due"
    invoice = latest(sandbox, made)
    assert (invoice["status"], invoice["attempt_count"]) == ("open", 1)
    assert invoice["next_payment_attempt"] == invoice["status_transitions"]["finalized_at"] + 3 * DAY
    sandbox.advance(3 * DAY)
    assert latest(sandbox, made)["attempt_count"] == 2
    good = sandbox.give_card("cus_ann")
    assert good["id"] != declining["id"]
    sandbox.advance(5 * DAY)
    invoice = latest(sandbox, made)
    assert (invoice["status"], invoice["attempt_count"], invoice["next_payment_attempt"]) == ("paid", 3, None)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "active"


@pytest.mark.parametrize(("setting", "status"), [("past_due",) * 2, ("unpaid",) * 2, ("cancel", "canceled")])
def test_after_the_last_attempt_the_accounts_setting_decides(sandbox: Sandbox, setting: str, status: str) -> None:
    """SBX-74"""
    sandbox.settings(after_retries=setting)
    made = subscribe(sandbox)
    card = get(sandbox, "/v1/customers/cus_ann")["invoice_settings"]["default_payment_method"]
    sandbox.card_answers(card, "insufficient_funds")
    sandbox.set_clock(made["items"]["data"][0]["current_period_end"] + 1)
    for days in (3, 5, 7):
        sandbox.advance(days * DAY)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == status
    invoice = latest(sandbox, made)
    assert (invoice["attempt_count"], invoice["next_payment_attempt"]) == (4, None)
    failed = next(sandbox.store.newest_first("charge"))
    assert failed["outcome"]["reason"] == "insufficient_funds"


def test_a_declined_first_payment_is_incomplete_or_an_error(sandbox: Sandbox) -> None:
    """SBX-72, SBX-67"""
    sandbox.give_card("cus_bob", "pm_card_chargeCustomerFail")
    asked = {"customer": "cus_bob", "items": [{"price": "price_month"}]}
    made = done(sandbox, "/v1/subscriptions", **asked)
    assert (made["status"], latest(sandbox, made)["status"]) == ("incomplete", "open")
    subscriptions = len(sandbox.store.all("subscription"))
    error = sandbox.request("POST", "/v1/subscriptions", {**asked, "payment_behavior": "error_if_incomplete"})
    assert (error.status, error.body["error"]["code"]) == (402, "card_declined")
    assert len(sandbox.store.all("subscription")) == subscriptions
    path = f"/v1/invoices/{made['latest_invoice']}/pay"
    assert sandbox.request("POST", path).status == 402
    assert latest(sandbox, made)["attempt_count"] == 2  # the attempt stays on record
    sandbox.give_card("cus_bob")
    assert done(sandbox, path)["status"] == "paid"
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "active"


@pytest.mark.parametrize(
    ("card", "status"),
    [
        ("pm_card_visa", "complete"),
        ("pm_card_chargeDeclined", "open"),
        ("pm_card_chargeCustomerFail", "open"),
        ("pm_card_authenticationRequired", "open"),
    ],
)
def test_the_card_on_the_payment_page_decides(sandbox: Sandbox, open_session: Any, card: str, status: str) -> None:
    """SBX-73"""
    session = sandbox.pay(open_session()["id"], card=card)
    assert session["status"] == status
    assert ("charge.failed" in types(sandbox)) == (card.startswith("pm_card_charge"))


@pytest.mark.parametrize(
    ("card", "first", "later"),
    [
        ("pm_card_visa", "succeeded", "succeeded"),
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_card_refundFail", "succeeded", "failed"),
    ],
)
def test_the_card_decides_what_becomes_of_a_refund(sandbox: Sandbox, card: str, first: str, later: str) -> None:
    """SBX-73"""
    sandbox.give_card("cus_bob", card)
    done(sandbox, "/v1/subscriptions", customer="cus_bob", items=[{"price": "price_month"}])
    [charge] = sandbox.store.all("charge")
    refund = done(sandbox, "/v1/refunds", charge=charge["id"])
    assert (refund["status"], refund.get("pending_reason")) == (first, "processing" if first == "pending" else None)
    sandbox.advance(2 * DAY)
    assert get(sandbox, f"/v1/refunds/{refund['id']}")["status"] == later
    after = get(sandbox, f"/v1/charges/{charge['id']}")
    assert (after["refunded"], after["amount_refunded"]) == ((False, 0) if later == "failed" else (True, 900))
    assert ("refund.failed" in types(sandbox)) == (later == "failed")
    assert ("refund.updated" in types(sandbox)) == (first != later)


def test_a_refund_can_be_made_to_fail_or_arrive_at_once(sandbox: Sandbox) -> None:
    """SBX-73"""
    subscribe(sandbox)
    [charge] = sandbox.store.all("charge")
    refund = done(sandbox, "/v1/refunds", charge=charge["id"], amount=100)
    failed = sandbox.refund_becomes(refund["id"], "failed")
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert types(sandbox)[:3] == ["refund.failed", "charge.refund.updated", "refund.updated"]


def test_what_is_unpaid_gets_drafts_and_what_ended_is_not_tried_again(sandbox: Sandbox) -> None:
    """SBX-74"""
    sandbox.settings(after_retries="unpaid")
    made = subscribe(sandbox)
    sandbox.give_card("cus_ann", "pm_card_chargeCustomerFail")
    sandbox.set_clock(made["items"]["data"][0]["current_period_end"] + 1)
    first = latest(sandbox, made)["id"]
    for days in (3, 5, 7, 31):
        sandbox.advance(days * DAY)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "unpaid"
    assert (latest(sandbox, made)["status"], latest(sandbox, made)["auto_advance"]) == ("draft", False)
    behind = subscribe(sandbox, trial_period_days=1)
    sandbox.advance(2 * DAY)
    owed = latest(sandbox, behind)
    assert (owed["status"], owed["next_payment_attempt"] is None) == ("open", False)
    sandbox.request("DELETE", f"/v1/subscriptions/{behind['id']}")
    left = get(sandbox, f"/v1/invoices/{owed['id']}")
    assert (left["status"], left["next_payment_attempt"], left["auto_advance"]) == ("open", None, False)
    attempts = left["attempt_count"]
    sandbox.advance(10 * DAY)
    assert get(sandbox, f"/v1/invoices/{owed['id']}")["attempt_count"] == attempts
    assert get(sandbox, f"/v1/invoices/{first}")["status"] == "open"


@pytest.mark.parametrize("token", ["pm_card_threeDSecure2Required", "pm_card_authenticationRequired"])
def test_a_card_that_always_asks_is_not_charged_without_its_buyer(sandbox: Sandbox, token: str) -> None:
    """SBX-88"""
    made = subscribe(sandbox)
    card = sandbox.give_card("cus_ann", token)
    sandbox.set_clock(made["items"]["data"][0]["current_period_end"] + 1)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "past_due"
    assert {"invoice.payment_action_required", "invoice.payment_failed"} <= set(types(sandbox)[:5])
    invoice = latest(sandbox, made)
    refused = sandbox.request("POST", f"/v1/invoices/{invoice['id']}/pay", {"payment_method": card["id"]})
    assert (refused.status, refused.body["error"]["code"]) == (402, "invoice_payment_intent_requires_action")
    assert latest(sandbox, made)["attempt_count"] == 2
    asked = {"customer": "cus_ann", "items": [{"price": "price_month"}]}
    assert done(sandbox, "/v1/subscriptions", **asked)["status"] == "incomplete"
    strict = sandbox.request("POST", "/v1/subscriptions", {**asked, "payment_behavior": "error_if_incomplete"})
    assert (strict.status, strict.body["error"]["code"]) == (402, "subscription_payment_intent_requires_action")
    sandbox.give_card("cus_ann")
    assert done(sandbox, f"/v1/invoices/{invoice['id']}/pay")["status"] == "paid"
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "active"


def test_a_source_is_the_default_card_where_no_other_is(sandbox: Sandbox) -> None:
    """SBX-72"""
    customer = done(sandbox, "/v1/customers", source="tok_visa")
    assert customer["default_source"].startswith("card_")
    assert subscribe(sandbox, customer=customer["id"])["status"] == "active"
    assert next(sandbox.store.newest_first("charge"))["payment_method"] == customer["default_source"]
    changed = done(sandbox, f"/v1/customers/{customer['id']}", source="tok_chargeCustomerFail")
    assert changed["default_source"] not in (None, customer["default_source"])
    assert subscribe(sandbox, customer=customer["id"])["status"] == "incomplete"
    for token, status in (("tok_chargeDeclined", 402), ("tok_nobody", 400)):
        assert sandbox.request("POST", "/v1/customers", {"source": token}).status == status
    assert types(sandbox).count("customer.source.created") == 2


@pytest.mark.parametrize(("days", "waits"), [(1, 0), (3, 0), (10, 7)])
def test_a_trials_end_is_told_three_days_before(sandbox: Sandbox, days: int, waits: int) -> None:
    """SBX-89"""
    made = subscribe(sandbox, trial_period_days=days)
    assert types(sandbox).count("customer.subscription.trial_will_end") == (not waits)
    sandbox.advance(waits * DAY)
    assert types(sandbox).count("customer.subscription.trial_will_end") == 1
    sandbox.advance((days - waits) * DAY)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "active"
    assert types(sandbox).count("customer.subscription.trial_will_end") == 1


@pytest.mark.parametrize(
    ("customer", "behavior", "status"),
    [("cus_bob", "pause", "paused"), ("cus_bob", "cancel", "canceled"), ("cus_ann", "pause", "active")],
)
def test_a_trial_that_is_cut_short_ends_like_any_other(
    sandbox: Sandbox, customer: str, behavior: str, status: str
) -> None:
    """SBX-75, SBX-89"""
    settings = {"end_behavior": {"missing_payment_method": behavior}}
    made = subscribe(sandbox, customer=customer, trial_period_days=10, trial_settings=settings)
    after = done(sandbox, f"/v1/subscriptions/{made['id']}", trial_end="now")
    assert after["status"] == status
    assert types(sandbox).count("customer.subscription.trial_will_end") == 1
    assert types(sandbox).count("customer.subscription.paused") == (status == "paused")


@pytest.mark.parametrize(("card", "status"), [("pm_card_visa", "active"), ("pm_card_chargeCustomerFail", "past_due")])
def test_a_paused_trial_is_resumed_and_billed(sandbox: Sandbox, card: str, status: str) -> None:
    """SBX-94"""
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    made = subscribe(sandbox, customer="cus_bob", trial_period_days=7, trial_settings=settings)
    path = f"/v1/subscriptions/{made['id']}/resume"
    assert sandbox.request("POST", path).status == 400
    sandbox.advance(40 * DAY)
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "paused"
    sandbox.give_card("cus_bob", card)
    resumed = done(sandbox, path)
    assert resumed["status"] == status
    assert resumed["items"]["data"][0]["current_period_start"] == int(sandbox.clock.now())
    assert latest(sandbox, made)["status"] == ("paid" if status == "active" else "open")
    assert "customer.subscription.resumed" in types(sandbox)


def test_a_paused_trial_ends_when_it_is_to_end(sandbox: Sandbox) -> None:
    """SBX-83: no period begins meanwhile."""
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    made = subscribe(sandbox, customer="cus_bob", trial_period_days=7, trial_settings=settings)
    path = f"/v1/subscriptions/{made['id']}"
    sandbox.advance(40 * DAY)
    done(sandbox, path, cancel_at=int(sandbox.clock.now()) + 3600)
    sandbox.advance(3599)
    assert get(sandbox, path)["status"] == "paused"
    sandbox.advance(1)
    assert get(sandbox, path)["status"] == "canceled"
