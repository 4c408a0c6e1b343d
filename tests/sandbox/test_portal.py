"""The portal's configurations, Payment Links, and what people do without the API."""

from typing import Any

import pytest
import requests

from sandbox import ApiError, Sandbox

CANCEL = {"subscription_cancel": {"enabled": "true", "mode": "immediately"}}


def test_a_portal_session_names_its_configuration(sandbox: Sandbox) -> None:
    """SBX-84"""
    session = sandbox.request("POST", "/v1/billing_portal/sessions", {"customer": "cus_ann"}).body
    listed = sandbox.request("GET", "/v1/billing_portal/configurations", {"is_default": "true"}).body["data"]
    assert [one["id"] for one in listed] == [session["configuration"]]
    assert listed[0]["features"]["subscription_update"]["enabled"] is False
    whole = {"customer": "cus_ann", "expand": ["configuration"]}
    assert sandbox.request("POST", "/v1/billing_portal/sessions", whole).body["configuration"] == listed[0]
    made = sandbox.request("POST", "/v1/billing_portal/configurations", {"features": CANCEL, "name": "ours"}).body
    assert made["features"]["subscription_cancel"]["mode"] == "immediately"
    asked = {"customer": "cus_ann", "configuration": made["id"]}
    assert sandbox.request("POST", "/v1/billing_portal/sessions", asked).body["configuration"] == made["id"]
    sandbox.request("POST", f"/v1/billing_portal/configurations/{made['id']}", {"active": "false"})
    assert sandbox.request("POST", "/v1/billing_portal/sessions", asked).status == 400
    assert sandbox.request("POST", "/v1/billing_portal/configurations", {"name": "ours"}).status == 400


@pytest.mark.parametrize(("enabled", "status"), [(True, "canceled"), (False, "active")])
def test_the_portals_page_does_what_its_configuration_allows(
    url: str, sandbox: Sandbox, open_session: Any, enabled: bool, status: str
) -> None:
    """SBX-84"""
    subscription = sandbox.pay(open_session()["id"])["subscription"]
    features = {"subscription_cancel": {"enabled": enabled, "mode": "immediately"}}
    made = sandbox.request("POST", "/v1/billing_portal/configurations", {"features": features}).body["id"]
    asked = {"customer": "cus_ann", "configuration": made}
    page = sandbox.request("POST", "/v1/billing_portal/sessions", asked, base_url=url).body["url"]
    assert ("Cancel now" in requests.get(page, timeout=5).text) is enabled
    requests.post(f"{page}/{subscription}/cancel", timeout=5)
    assert sandbox.request("GET", f"/v1/subscriptions/{subscription}").body["status"] == status


def test_a_portal_that_nobody_saved_opens_for_nobody(sandbox: Sandbox) -> None:
    """SBX-84"""
    sandbox.request("POST", "/v1/billing_portal/sessions", {"customer": "cus_ann"})
    sandbox.settings(portal="never_saved")
    refused = sandbox.request("POST", "/v1/billing_portal/sessions", {"customer": "cus_ann"})
    assert (refused.status, refused.body["error"].get("param")) == (400, None)
    assert "default configuration has not been created" in refused.body["error"]["message"]
    assert sandbox.request("GET", "/v1/billing_portal/configurations", {"is_default": "true"}).body["data"] == []
    with pytest.raises(ApiError, match="Unknown setting"):
        sandbox.settings(portal="maybe")


def test_each_visit_to_a_payment_link_is_a_session_of_its_own(url: str, sandbox: Sandbox) -> None:
    """SBX-85"""
    asked = {"line_items": [{"price": "price_month"}], "metadata": {"from": "a newsletter"}}
    link = sandbox.request("POST", "/v1/payment_links", asked, base_url=url).body
    first, second = (sandbox.visit_link(link["id"]) for _ in range(2))
    assert first["id"] != second["id"]
    assert (first["payment_link"], first["customer"], first["metadata"]) == (link["id"], None, {"from": "a newsletter"})
    paid = sandbox.pay(first["id"])
    subscription = sandbox.request("GET", f"/v1/subscriptions/{paid['subscription']}").body
    assert (subscription["metadata"], subscription["status"]) == ({}, "active")
    assert paid["customer"] not in ("cus_ann", "cus_bob", None)
    assert "KiloClaw" in requests.get(link["url"], timeout=5).text
    sandbox.request("POST", f"/v1/payment_links/{link['id']}", {"active": "false"})
    assert requests.get(link["url"], timeout=5).status_code == 404


def test_people_change_a_subscription_without_a_request(url: str, sandbox: Sandbox, open_session: Any) -> None:
    """SBX-87: a price moved in the portal, by the control plane"""
    paid = sandbox.pay(open_session()["id"])
    one = sandbox.request("GET", f"/v1/subscriptions/{paid['subscription']}").body
    change = {"items": [{"id": one["items"]["data"][0]["id"], "price": "price_half_year"}]}
    moved = requests.post(f"{url}/_sandbox/subscriptions/{one['id']}", json=change, timeout=5)
    assert moved.json()["items"]["data"][0]["price"]["id"] == "price_half_year"
    event = next(one for one in sandbox.store.newest_first("event") if one["type"] == "customer.subscription.updated")
    assert event["request"]["id"] is None
    refused = requests.post(f"{url}/_sandbox/subscriptions/{one['id']}", json={"nonsense": 1}, timeout=5)
    assert refused.status_code == 400


def test_people_banks_and_settings_decide_over_http(url: str, sandbox: Sandbox, open_session: Any) -> None:
    """SBX-87, SBX-73, SBX-74"""

    def control(path: str, **body: Any) -> Any:
        answer = requests.post(f"{url}/_sandbox/{path}", json=body, timeout=5)
        assert answer.ok, answer.text
        return answer.json()

    assert control("settings", after_retries="unpaid")["after_retries"] == "unpaid"
    assert control("customers/cus_bob/card", card="pm_card_refundFail")["customer"] == "cus_bob"
    declined = control(f"checkout_sessions/{open_session()['id']}/pay", card="pm_card_chargeDeclined")
    assert declined["status"] == "open"
    paid = control(f"checkout_sessions/{declined['id']}/pay")
    card = sandbox.request("GET", f"/v1/subscriptions/{paid['subscription']}").body["default_payment_method"]
    assert control(f"payment_methods/{card}", declines="insufficient_funds")["id"] == card
    charge = sandbox.request("GET", "/v1/charges", {"limit": 1}).body["data"][0]["id"]
    refund = sandbox.request("POST", "/v1/refunds", {"charge": charge}).body["id"]
    assert control(f"refunds/{refund}/status", status="failed")["status"] == "failed"
    link = sandbox.request("POST", "/v1/payment_links", {"line_items": [{"price": "price_once"}]}).body["id"]
    assert control(f"payment_links/{link}/visit")["mode"] == "payment"
