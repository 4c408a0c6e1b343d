"""The scenario with `stripe` for Python, whichever major is on the path: `python scenario.py BASE SANDBOX VERSION`.

It runs alone, so it imports nothing of ours. It ends with exit 0, or at the first line that did not hold.
"""

import sys
import urllib.request

import stripe

BASE, SANDBOX, VERSION = sys.argv[1:]


def pay(session_id: str) -> None:
    """What the buyer does on the payment page."""
    address = f"{SANDBOX}/_sandbox/checkout_sessions/{session_id}/pay"
    urllib.request.urlopen(urllib.request.Request(address, b"{}", {"Content-Type": "application/json"})).close()


def main() -> None:
    client = stripe.StripeClient("sk_test_of_conformance", base_addresses={"api": BASE}, stripe_version=VERSION)
    api = client.v1
    customer = api.customers.create({"email": "ann@example.com", "metadata": {"user": "ann"}})
    product = api.products.create({"name": "Claw"})
    month = {"currency": "usd", "product": product.id, "recurring": {"interval": "month"}}
    small, large = (api.prices.create({**month, "unit_amount": amount}) for amount in (900, 1900))
    session = api.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [{"price": small.id, "quantity": 1}],
            "success_url": "https://example.com/done",
            "subscription_data": {"metadata": {"type": "claw"}},
        }
    )
    assert session.status == "open"
    assert session.url
    pay(session.id)
    session = api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert session.status == "complete"
    assert session.payment_status == "paid"
    listed = api.subscriptions.list({"customer": customer.id, "status": "all"})
    (subscription,) = listed.data
    assert subscription.id == session.subscription.id
    assert subscription.status == "active"
    assert api.subscriptions.update(subscription.id, {"metadata": {"seen": "1"}}).metadata["seen"] == "1"
    schedule = api.subscription_schedules.create({"from_subscription": subscription.id})
    first = schedule.phases[0]
    schedule = api.subscription_schedules.update(
        schedule.id,
        {
            "end_behavior": "release",
            "phases": [
                {"items": [{"price": small.id}], "start_date": first.start_date, "end_date": first.end_date},
                {"items": [{"price": large.id}], "duration": {"interval": "month"}},
            ],
        },
    )
    assert len(schedule.phases) == 2
    assert api.subscription_schedules.release(schedule.id).status == "released"
    charges = api.charges.list({"customer": customer.id}).data
    assert api.refunds.create({"charge": charges[0].id, "amount": 100}).status == "succeeded"
    api.billing_portal.configurations.create({"features": {"invoice_history": {"enabled": True}}})
    assert api.billing_portal.sessions.create({"customer": customer.id}).url
    assert api.subscriptions.update(subscription.id, {"cancel_at_period_end": True}).cancel_at
    assert api.subscriptions.cancel(subscription.id).status == "canceled"
    clock = api.test_helpers.test_clocks.create({"frozen_time": 1_577_836_800})
    card = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    frozen = api.customers.create({"test_clock": clock.id, **card})
    renewing = api.subscriptions.create({"customer": frozen.id, "items": [{"price": small.id}]})
    assert api.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_580_515_200}).status == "advancing"
    assert api.test_helpers.test_clocks.retrieve(clock.id).status == "ready"
    assert len(api.invoices.list({"subscription": renewing.id}).data) == 2
    assert api.test_helpers.test_clocks.delete(clock.id).deleted
    types = {one.type for one in api.events.list({"limit": 100}).data}
    assert {"checkout.session.completed", "customer.subscription.deleted", "charge.refunded"} <= types, types
    refused = None
    try:
        api.customers.retrieve("cus_nobody")
    except stripe.InvalidRequestError as error:
        refused = error.code
    assert refused == "resource_missing"


main()
