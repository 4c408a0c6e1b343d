"""What people and Stripe's CLI do beside selling: products go, invoices are sent, schedules end early."""

from typing import Any

import pytest

from sandbox import Sandbox
from tests.sandbox.buying import DAY, done, get, subscribe, types


def test_a_product_without_prices_can_be_deleted(sandbox: Sandbox) -> None:
    """SBX-90"""
    made = done(sandbox, "/v1/products", name="Short-lived")
    assert sandbox.request("DELETE", f"/v1/products/{made['id']}").body["deleted"] is True
    assert sandbox.request("GET", f"/v1/products/{made['id']}").status == 404
    assert types(sandbox)[0] == "product.deleted"
    assert sandbox.request("DELETE", "/v1/products/prod_claw").status == 400


def test_an_invoice_is_sent_where_it_is_not_charged(sandbox: Sandbox) -> None:
    """SBX-90"""
    done(sandbox, "/v1/invoiceitems", customer="cus_ann", amount=100, currency="usd")
    asked = {"customer": "cus_ann", "pending_invoice_items_behavior": "include"}
    draft = done(sandbox, "/v1/invoices", **asked, collection_method="send_invoice", days_until_due=7)
    sent = done(sandbox, f"/v1/invoices/{draft['id']}/send")
    assert (sent["status"], sent["amount_due"]) == ("open", 100)
    assert types(sandbox)[:2] == ["invoice.sent", "invoice.finalized"]
    charged = done(sandbox, "/v1/invoices", customer="cus_ann")
    assert sandbox.request("POST", f"/v1/invoices/{charged['id']}/send").status == 400


@pytest.mark.parametrize(
    ("asked", "credited"), [({}, True), ({"prorate": False}, False), ({"invoice_now": False}, False)]
)
def test_a_canceled_schedule_bills_what_is_left_unless_told_not_to(
    sandbox: Sandbox, asked: dict[str, Any], credited: bool
) -> None:
    """SBX-37"""
    made = subscribe(sandbox)
    schedule = done(sandbox, "/v1/subscription_schedules", from_subscription=made["id"])
    sandbox.advance(10 * DAY)
    assert done(sandbox, f"/v1/subscription_schedules/{schedule['id']}/cancel", **asked)["status"] == "canceled"
    assert get(sandbox, f"/v1/subscriptions/{made['id']}")["status"] == "canceled"
    assert (get(sandbox, "/v1/customers/cus_ann")["balance"] < 0) == credited
    assert "subscription_schedule.aborted" not in types(sandbox)


def test_a_schedule_that_never_began_is_aborted(sandbox: Sandbox) -> None:
    later = int(sandbox.clock.now()) + 10 * DAY
    phases = [{"items": [{"price": "price_month"}]}]
    made = done(sandbox, "/v1/subscription_schedules", customer="cus_ann", start_date=later, phases=phases)
    done(sandbox, f"/v1/subscription_schedules/{made['id']}/cancel")
    assert types(sandbox)[:2] == ["subscription_schedule.aborted", "subscription_schedule.canceled"]


def test_nothing_is_null_that_stripes_document_wants_otherwise(sandbox: Sandbox) -> None:
    """SBX-91"""
    schedule = done(sandbox, "/v1/subscription_schedules", from_subscription=subscribe(sandbox)["id"])
    now = schedule["phases"][0]
    first = {name: now[name] for name in ("start_date", "end_date")} | {"items": [{"price": "price_month"}]}
    changed = done(sandbox, f"/v1/subscription_schedules/{schedule['id']}", phases=[first])
    assert "automatic_tax" not in changed["phases"][0]
    link = done(sandbox, "/v1/payment_links", line_items=[{"price": "price_month"}])
    assert link["after_completion"] == {"type": "hosted_confirmation", "hosted_confirmation": {"custom_message": None}}
    assert set(link["custom_text"].values()) == {None}
    item = done(sandbox, "/v1/invoiceitems", customer="cus_ann", amount=100, currency="usd")
    assert item["quantity_decimal"] == "1"
    done(sandbox, "/v1/tax_rates", display_name="VAT", percentage=20, inclusive=False)
    assert types(sandbox)[0] == "tax_rate.created"


def test_a_payment_intent_is_charged_when_it_is_confirmed(sandbox: Sandbox) -> None:
    """SBX-92"""
    asked = {"amount": 100, "currency": "usd"}
    waits = done(sandbox, "/v1/payment_intents", **asked)
    assert waits["status"] == "requires_payment_method"
    assert sandbox.request("POST", f"/v1/payment_intents/{waits['id']}/confirm").status == 400
    path = f"/v1/payment_intents/{waits['id']}/confirm"
    assert done(sandbox, path, payment_method="pm_card_visa")["amount_received"] == 100
    assert sandbox.request("POST", path).body["error"]["code"] == "payment_intent_unexpected_state"
    both = {**asked, "customer": "cus_bob", "confirm": True}
    done(sandbox, "/v1/payment_intents", **both, payment_method="pm_card_visa", setup_future_usage="off_session")
    assert [one["customer"] for one in sandbox.store.newest_first("payment_method", customer="cus_bob")] == ["cus_bob"]
    refused = sandbox.request("POST", "/v1/payment_intents", {**both, "payment_method": "pm_card_chargeDeclined"})
    assert (refused.status, refused.body["error"]["payment_intent"]["status"]) == (402, "requires_payment_method")
    gone = done(sandbox, f"/v1/payment_intents/{refused.body['error']['payment_intent']['id']}/cancel")
    assert (gone["status"], types(sandbox)[0]) == ("canceled", "payment_intent.canceled")


@pytest.mark.parametrize(
    ("card", "status", "closed"),
    [
        ("pm_card_createDispute", "needs_response", "lost"),
        ("pm_card_createDisputeInquiry", "warning_needs_response", "warning_closed"),
    ],
)
def test_a_card_whose_charges_are_disputed(sandbox: Sandbox, card: str, status: str, closed: str) -> None:
    """SBX-73"""
    asked = {"amount": 100, "currency": "usd", "confirm": True, "payment_method": card}
    intent = done(sandbox, "/v1/payment_intents", **asked)
    listed = sandbox.request("GET", "/v1/disputes", {"payment_intent": intent["id"]})
    (found,) = listed.body["data"]
    assert found["status"] == status
    assert (found["evidence"], found["evidence_details"]["enhanced_eligibility"]) == ({"enhanced_evidence": {}}, {})
    path = f"/v1/disputes/{found['id']}"
    assert done(sandbox, path, metadata={"a": "1"})["metadata"] == {"a": "1"}
    assert done(sandbox, f"{path}/close")["status"] == closed
    assert sandbox.request("POST", f"{path}/close").status == 400
    assert types(sandbox)[:3] == ["charge.dispute.closed", "charge.dispute.updated", "payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("card", "status"),
    [("pm_card_visa", "succeeded"), ("pm_card_authenticationRequired", "requires_action")],
)
def test_a_setup_intent_keeps_a_card_without_a_charge(sandbox: Sandbox, card: str, status: str) -> None:
    """SBX-92"""
    made = done(sandbox, "/v1/setup_intents", customer="cus_bob", payment_method=card, confirm=True)
    assert made["status"] == status
    attached = list(sandbox.store.newest_first("payment_method", customer="cus_bob"))
    assert len(attached) == (status == "succeeded")
    assert sandbox.store.all("charge") == []
    declined = {"payment_method": "pm_card_chargeDeclined", "confirm": True}
    assert sandbox.request("POST", "/v1/setup_intents", declined).status == 402


def test_a_promotion_code_stands_for_a_coupon(sandbox: Sandbox) -> None:
    """SBX-93"""
    coupon = {"promotion": {"type": "coupon", "coupon": "half_once"}}
    made = done(sandbox, "/v1/promotion_codes", **coupon, code="HALF")
    assert sandbox.request("POST", "/v1/promotion_codes", {**coupon, "code": "half"}).status == 400
    done(sandbox, f"/v1/promotion_codes/{made['id']}", active=False)
    again = done(sandbox, "/v1/promotion_codes", **coupon, code="half")
    listed = sandbox.request("GET", "/v1/promotion_codes", {"active": "true"}).body["data"]
    assert [one["id"] for one in listed] == [again["id"]]
    assert types(sandbox)[:2] == ["promotion_code.created", "promotion_code.updated"]


def test_a_changed_refund_is_told_by_its_newer_and_its_older_event(sandbox: Sandbox) -> None:
    """SBX-91"""
    paid = {"amount": 100, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    refund = done(sandbox, "/v1/refunds", payment_intent=done(sandbox, "/v1/payment_intents", **paid)["id"])
    done(sandbox, f"/v1/refunds/{refund['id']}", metadata={"order": "6735"})
    assert types(sandbox)[:2] == ["charge.refund.updated", "refund.updated"]
