"""Checkout sessions: opened, paid, declined, expired; and what each of them leaves behind."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import ApiError, Sandbox

Open = Callable[..., dict[str, Any]]


def events(sandbox: Sandbox) -> list[str]:
    return [one["type"] for one in reversed(list(sandbox.store.newest_first("event")))]


def fetch(sandbox: Sandbox, path: str) -> dict[str, Any]:
    return sandbox.request("GET", path).body


def test_an_open_session_has_a_url_and_no_subscription(client: stripe.StripeClient, url: str, params: Open) -> None:
    # SBX-10
    session = client.v1.checkout.sessions.create(params(client_reference_id="u1", locale="de"))
    assert (session.status, session.payment_status, session.subscription) == ("open", "unpaid", None)
    assert session.url == f"{url}/pay/{session.id}"
    assert session.id.startswith("cs_test_")
    assert session.metadata["nonce"] == "n-1"
    assert session.amount_total == 900
    assert session.expires_at - session.created == 24 * 3600


@pytest.mark.parametrize(("seconds", "allowed"), [(1799, False), (1800, True), (86400, True), (86401, False)])
def test_a_session_lives_from_30_minutes_to_24_hours(params: Open, seconds: int, allowed: bool) -> None:
    # SBX-11
    sandbox = Sandbox(clock=lambda: 1_800_000_000.0)
    sandbox.seed([{"object": "price", "id": "price_month", "unit_amount": 1, "recurring": {"interval": "month"}}])
    sent = params(expires_at=str(1_800_000_000 + seconds))
    del sent["customer"]
    answer = sandbox.request("POST", "/v1/checkout/sessions", sent)
    assert answer.status == (200 if allowed else 400)
    if not allowed:
        assert answer.body["error"]["param"] == "expires_at"


def test_paying_makes_a_subscription_an_invoice_and_a_charge(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-12
    session = sandbox.pay(open_session(line_items=[{"price": "price_month", "quantity": 3}])["id"])
    assert (session["status"], session["payment_status"], session["url"]) == ("complete", "paid", None)
    subscription = fetch(sandbox, f"/v1/subscriptions/{session['subscription']}")
    assert (subscription["status"], subscription["metadata"]) == ("active", {"type": "kiloclaw", "nonce": "n-1"})
    item = subscription["items"]["data"][0]
    assert (item["price"]["id"], item["quantity"]) == ("price_month", 3)
    assert 28 * 86400 <= item["current_period_end"] - item["current_period_start"] <= 31 * 86400
    invoice = fetch(sandbox, f"/v1/invoices/{session['invoice']}")
    assert (invoice["status"], invoice["amount_paid"], invoice["billing_reason"]) == (
        "paid",
        2700,
        "subscription_create",
    )
    assert invoice["parent"]["subscription_details"]["subscription"] == subscription["id"]
    assert subscription["latest_invoice"] == invoice["id"]
    assert fetch(sandbox, "/v1/charges")["data"][0]["amount"] == 2700


def test_paying_announces_what_a_real_checkout_announces_in_its_order(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-13
    session = open_session()
    before = len(events(sandbox))
    sandbox.pay(session["id"])
    assert events(sandbox)[before:] == [
        "charge.succeeded",
        "payment_method.attached",
        "checkout.session.completed",
        "customer.updated",
        "customer.subscription.created",
        "payment_intent.succeeded",
        "payment_intent.created",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


def test_an_event_holds_the_object_as_it_was_then(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-13
    sandbox.pay(open_session()["id"])
    found = {one["type"]: one for one in sandbox.store.newest_first("event")}
    statuses = [found[f"invoice.{stage}"]["data"]["object"]["status"] for stage in ("created", "finalized", "paid")]
    assert statuses == ["draft", "open", "paid"]
    completed = found["checkout.session.completed"]
    assert completed["data"]["object"]["status"] == "complete"
    assert set(completed) == {
        "id", "object", "api_version", "created", "data", "livemode", "pending_webhooks", "request", "type"
    }  # fmt: skip
    assert found["customer.updated"]["data"]["previous_attributes"] == {"currency": None}
    assert not [name for name in completed["data"]["object"] if name.startswith("_")]


def test_a_session_is_paid_once(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-12
    session = open_session()
    sandbox.pay(session["id"])
    with pytest.raises(ApiError, match="complete"):
        sandbox.pay(session["id"])
    assert len(fetch(sandbox, "/v1/subscriptions")["data"]) == 1


def test_two_open_sessions_can_both_be_paid(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-14
    for session in [open_session(), open_session()]:
        sandbox.pay(session["id"])
    assert len(fetch(sandbox, "/v1/subscriptions")["data"]) == 2


def test_a_trial_costs_nothing_and_makes_no_charge(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-15
    session = open_session(subscription_data={"trial_period_days": "7"})
    assert session["amount_total"] == 0
    paid = sandbox.pay(session["id"])
    assert paid["payment_status"] == "no_payment_required"
    subscription = fetch(sandbox, f"/v1/subscriptions/{paid['subscription']}")
    assert subscription["status"] == "trialing"
    assert subscription["trial_end"] == subscription["items"]["data"][0]["current_period_end"]
    assert fetch(sandbox, f"/v1/invoices/{paid['invoice']}")["status"] == "paid"
    assert fetch(sandbox, "/v1/charges")["data"] == []


def test_a_full_discount_costs_nothing_and_makes_no_charge(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-15
    paid = sandbox.pay(open_session(discounts=[{"coupon": "all_of_it"}])["id"])
    assert (paid["payment_status"], paid["amount_total"]) == ("paid", 0)
    assert fetch(sandbox, f"/v1/subscriptions/{paid['subscription']}")["status"] == "active"
    assert fetch(sandbox, f"/v1/invoices/{paid['invoice']}")["total"] == 0
    assert fetch(sandbox, "/v1/payment_intents")["data"] == []


def test_a_coupon_for_the_first_payment_is_spent_by_it(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-12
    session = open_session(discounts=[{"coupon": "half_once"}])
    assert (session["amount_subtotal"], session["amount_total"]) == (900, 450)
    paid = sandbox.pay(session["id"])
    assert fetch(sandbox, f"/v1/invoices/{paid['invoice']}")["amount_paid"] == 450
    assert fetch(sandbox, f"/v1/subscriptions/{paid['subscription']}")["discounts"] == []
    assert fetch(sandbox, "/v1/coupons/half_once")["times_redeemed"] == 1


def test_a_declined_card_leaves_the_session_open(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-16
    session = open_session()
    sandbox.decline(session["id"])
    assert events(sandbox)[-3:] == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    now = fetch(sandbox, f"/v1/checkout/sessions/{session['id']}")
    assert (now["status"], now["url"], now["subscription"]) == ("open", session["url"], None)
    assert sandbox.pay(session["id"])["status"] == "complete"


def test_only_an_open_session_can_be_expired(client: stripe.StripeClient, sandbox: Sandbox, params: Open) -> None:
    # SBX-17
    session = client.v1.checkout.sessions.create(params())
    gone = client.v1.checkout.sessions.expire(session.id)
    assert (gone.status, gone.url) == ("expired", None)
    assert events(sandbox)[-1] == "checkout.session.expired"
    paid = client.v1.checkout.sessions.create(params())
    sandbox.pay(paid.id)
    for id, status in ((session.id, "expired"), (paid.id, "complete")):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            client.v1.checkout.sessions.expire(id)
        assert (caught.value.http_status, caught.value.code) == (400, None)
        assert caught.value.user_message == (
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of'
            f" `{status}`."
        )


def test_the_clock_expires_what_nobody_paid(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-18
    session = open_session()
    sandbox.advance(24 * 3600 - 60)
    assert fetch(sandbox, f"/v1/checkout/sessions/{session['id']}")["status"] == "open"
    sandbox.advance(60)
    assert fetch(sandbox, f"/v1/checkout/sessions/{session['id']}")["status"] == "expired"
    assert events(sandbox)[-1] == "checkout.session.expired"
    with pytest.raises(ApiError, match="expired"):
        sandbox.pay(session["id"])


def test_sessions_are_listed_by_customer_status_and_subscription(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-4
    left, gone, paid = (open_session()["id"] for _ in range(3))
    open_session(customer="cus_bob")
    sandbox.request("POST", f"/v1/checkout/sessions/{gone}/expire")
    subscription = sandbox.pay(paid)["subscription"]

    def ids(**filters: str) -> list[str]:
        return [one["id"] for one in sandbox.request("GET", "/v1/checkout/sessions", filters).body["data"]]

    assert ids(customer="cus_ann") == [paid, gone, left]
    assert ids(customer="cus_ann", status="open") == [left]
    assert ids(status="complete") == [paid]
    assert ids(subscription=subscription) == [paid]


def test_a_delayed_payment_is_announced_when_it_arrives(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-19
    session = sandbox.pay(open_session()["id"], delayed=True)
    assert (session["status"], session["payment_status"]) == ("complete", "unpaid")
    assert sandbox.settle(session["id"])["payment_status"] == "paid"
    assert events(sandbox)[-1] == "checkout.session.async_payment_succeeded"
    assert fetch(sandbox, f"/v1/invoices/{session['invoice']}")["status"] == "paid"


def test_a_delayed_payment_that_fails_leaves_the_subscription_past_due(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-19
    session = sandbox.pay(open_session()["id"], delayed=True)
    sandbox.settle(session["id"], succeeds=False)
    assert fetch(sandbox, f"/v1/subscriptions/{session['subscription']}")["status"] == "past_due"
    assert events(sandbox)[-1] == "checkout.session.async_payment_failed"


def test_a_session_without_a_customer_makes_one_when_it_is_paid(sandbox: Sandbox, params: Open) -> None:
    # SBX-12
    sent = params(customer_email="new@example.com")
    del sent["customer"]
    session = sandbox.request("POST", "/v1/checkout/sessions", sent).body
    assert session["customer"] is None
    customer = sandbox.pay(session["id"])["customer"]
    assert fetch(sandbox, f"/v1/customers/{customer}")["email"] == "new@example.com"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mode": "payment", "subscription_data": ""}, "recurring price"),
        ({"line_items": [{"price": "price_once", "quantity": 1}]}, "at least one recurring"),
        ({"allow_promotion_codes": "true", "discounts": [{"coupon": "half_once"}]}, "only specify one"),
        ({"customer_email": "x@example.com"}, "only specify one"),
        ({"success_url": ""}, "success_url"),
        ({"line_items": [{"price": "price_month"}]}, "quantity"),
        ({"line_items": [{"price": "price_month", "quantity": 0}]}, "greater than or equal"),
        ({"subscription_data": {"trial_end": "1"}}, "2 days"),
    ],
)
def test_contradictions_are_refused(sandbox: Sandbox, params: Open, change: dict[str, Any], word: str) -> None:
    # SBX-3
    answer = sandbox.request("POST", "/v1/checkout/sessions", params(**change))
    assert answer.status == 400
    assert word in answer.body["error"]["message"]


def test_a_single_payment_makes_no_subscription(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-12
    session = open_session(mode="payment", line_items=[{"price": "price_once", "quantity": 2}], subscription_data="")
    paid = sandbox.pay(session["id"])
    assert (paid["payment_status"], paid["subscription"]) == ("paid", None)
    assert fetch(sandbox, f"/v1/payment_intents/{paid['payment_intent']}")["amount_received"] == 5000


def test_a_later_billing_anchor_bills_the_part_of_a_period_until_then(params: Open) -> None:
    # SBX-15
    now = 1_800_000_000.0  # 15 January 2027; the period that ends on 8 February began on 8 January
    for behaviour, total, status in (("create_prorations", 697, "paid"), ("none", 0, "no_payment_required")):
        sandbox = Sandbox(clock=lambda: now)
        price = {"object": "price", "id": "price_month", "unit_amount": 900, "recurring": {"interval": "month"}}
        sandbox.seed([price, {"object": "customer", "id": "cus_ann"}])
        data = {"billing_cycle_anchor": int(now) + 24 * 86400, "proration_behavior": behaviour}
        session = sandbox.request("POST", "/v1/checkout/sessions", params(subscription_data=data)).body
        assert session["amount_total"] == total
        paid = sandbox.pay(session["id"])
        assert paid["payment_status"] == status
        assert fetch(sandbox, f"/v1/invoices/{paid['invoice']}")["amount_paid"] == total
        item = fetch(sandbox, f"/v1/subscriptions/{paid['subscription']}")["items"]["data"][0]
        assert item["current_period_end"] == data["billing_cycle_anchor"]
        far = params(subscription_data={"billing_cycle_anchor": int(now) + 40 * 86400})
        assert sandbox.request("POST", "/v1/checkout/sessions", far).status == 400


def test_a_buyer_who_is_asked_to_authenticate_has_an_incomplete_subscription(
    sandbox: Sandbox, open_session: Open
) -> None:
    # SBX-64, SBX-65
    session = open_session()
    assert sandbox.challenge(session["id"])["status"] == "open"
    [begun] = sandbox.request("GET", "/v1/subscriptions", {"status": "all"}).body["data"]
    [intent] = sandbox.request("GET", "/v1/payment_intents").body["data"]
    assert (begun["status"], intent["status"]) == ("incomplete", "requires_action")
    assert intent["next_action"]["type"] == "redirect_to_url"
    assert "payment_intent.requires_action" in events(sandbox)
    assert "invoice.payment_action_required" in events(sandbox)
    assert fetch(sandbox, f"/v1/checkout/sessions/{session['id']}")["subscription"] is None

    assert sandbox.authenticate(session["id"], succeeds=False)["status"] == "open"
    failed = fetch(sandbox, f"/v1/payment_intents/{intent['id']}")
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert sandbox.challenge(session["id"])["status"] == "open", "they may try again"
    done = sandbox.authenticate(session["id"])
    assert (done["status"], done["payment_status"], done["subscription"]) == ("complete", "paid", begun["id"])
    assert fetch(sandbox, f"/v1/subscriptions/{begun['id']}")["status"] == "active"
    assert fetch(sandbox, f"/v1/invoices/{done['invoice']}")["status"] == "paid"
    with pytest.raises(ApiError, match="complete"):
        sandbox.authenticate(session["id"])
    assert sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire").status == 400


def test_another_card_pays_for_the_subscription_that_was_begun(sandbox: Sandbox, open_session: Open) -> None:
    # SBX-65
    session = open_session()
    sandbox.challenge(session["id"])
    sandbox.authenticate(session["id"], succeeds=False)
    done = sandbox.pay(session["id"])
    [only] = sandbox.request("GET", "/v1/subscriptions", {"status": "all"}).body["data"]
    assert (done["subscription"], only["status"]) == (only["id"], "active")
    card = fetch(sandbox, f"/v1/payment_methods/{only['default_payment_method']}")
    assert card["card"]["last4"] == "4242"


def test_a_session_expired_while_its_buyer_authenticates_ends_with_nothing_paid(
    sandbox: Sandbox, open_session: Open
) -> None:
    # SBX-66
    session = open_session()
    sandbox.challenge(session["id"])
    assert sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire").status == 200
    with pytest.raises(ApiError, match="expired"):
        sandbox.authenticate(session["id"])
    [ended] = sandbox.request("GET", "/v1/subscriptions", {"status": "all"}).body["data"]
    [intent] = sandbox.request("GET", "/v1/payment_intents").body["data"]
    assert (ended["status"], intent["status"]) == ("incomplete_expired", "canceled")
    assert fetch(sandbox, f"/v1/invoices/{ended['latest_invoice']}")["status"] == "void"
    assert sandbox.request("GET", "/v1/charges").body["data"] == []


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_delayed_payment_of_what_is_bought_once(sandbox: Sandbox, open_session: Open, succeeds: bool) -> None:
    """SBX-19"""
    lines = [{"price": "price_once", "quantity": 2}]
    shipping = {"name": "Ann", "address": {"city": "Bern"}}
    data = {"setup_future_usage": "off_session", "shipping": shipping}
    once = open_session(mode="payment", subscription_data=None, line_items=lines, payment_intent_data=data)
    session = sandbox.pay(once["id"], delayed=True)
    intent = sandbox.request("GET", f"/v1/payment_intents/{session['payment_intent']}").body
    assert (session["payment_status"], intent["status"], intent["shipping"]) == ("unpaid", "processing", shipping)
    assert sandbox.store.all("charge") == []
    assert sandbox.settle(once["id"], succeeds=succeeds)["payment_status"] == ("paid" if succeeds else "unpaid")
    told = next(sandbox.store.newest_first("event"))["type"]
    assert told == f"checkout.session.async_payment_{'succeeded' if succeeds else 'failed'}"
