"""Disputes of the sandbox: made by the control plane, read by the API, told by events."""

from sandbox import Sandbox


def charged(sandbox: Sandbox) -> str:
    """A charge of a subscriber; its id."""
    recurring = {"currency": "usd", "unit_amount": 900, "recurring": {"interval": "month"}}
    price = sandbox.request("POST", "/v1/prices", {**recurring, "product_data": {"name": "x"}}).body["id"]
    addresses = {"success_url": "https://a.example/ok", "cancel_url": "https://a.example/no"}
    made = {"mode": "subscription", "line_items": [{"price": price, "quantity": 1}], **addresses}
    sandbox.pay(sandbox.request("POST", "/v1/checkout/sessions", made).body["id"])
    return str(sandbox.request("GET", "/v1/charges").body["data"][0]["id"])


def test_dispute_is_made_goes_on_and_is_told() -> None:
    sandbox = Sandbox()
    charge = charged(sandbox)
    made = sandbox.dispute(charge)
    sandbox.dispute(charge, "under_review")
    won = sandbox.dispute(charge, "won")

    assert won["id"] == made["id"]
    assert sandbox.request("GET", f"/v1/charges/{charge}").body["disputed"] is True, "as at Stripe, also when won"
    listed = sandbox.request("GET", "/v1/disputes", {"charge": charge}).body["data"]
    assert [one["status"] for one in listed] == ["won"]
    assert sandbox.request("GET", f"/v1/disputes/{made['id']}").body == won
    told = [one["type"] for one in sandbox.request("GET", "/v1/events", {"limit": 3}).body["data"]]
    assert told == ["charge.dispute.closed", "charge.dispute.updated", "charge.dispute.created"]


def test_charge_whose_money_a_dispute_has_taken_is_not_refunded() -> None:
    """SBX-6: an inquiry has taken nothing, and a dispute that was won has given it back."""
    sandbox = Sandbox()
    charge = charged(sandbox)
    for status in ("needs_response", "under_review"):
        sandbox.dispute(charge, status)
        refused = sandbox.request("POST", "/v1/refunds", {"charge": charge})
        assert (refused.status, refused.body["error"]["code"]) == (400, "charge_disputed")
    sandbox.dispute(charge, "won")
    assert sandbox.request("POST", "/v1/refunds", {"charge": charge}).status == 200
