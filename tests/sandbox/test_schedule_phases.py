"""Phases carry everything that a subscription has, and schedules that others made end or let go."""

from typing import Any

import pytest

from sandbox import Sandbox
from tests.sandbox.test_schedules import get, subscribe


def rich(sandbox: Sandbox) -> dict[str, Any]:
    """A subscription with everything that a phase can carry."""
    rate = sandbox.request("POST", "/v1/tax_rates", {"display_name": "VAT", "percentage": 20, "inclusive": "false"})
    sandbox.request("POST", "/v1/coupons", {"id": "loyal", "percent_off": 10, "duration": "forever"})
    meter = {"interval": "month", "usage_type": "metered", "meter": "mtr_1"}
    sandbox.seed([{"object": "price", "id": "price_use", "unit_amount": 3, "recurring": meter}])
    recurring = {"interval": "month"}
    sandbox.seed([{"object": "price", "id": "price_addon", "unit_amount": 200, "recurring": recurring}])
    items = [
        {"price": "price_month", "quantity": 2, "metadata": {"seat": "a"}, "tax_rates": [rate.body["id"]]},
        {"price": "price_addon", "discounts": [{"coupon": "loyal"}]},
        {"price": "price_use"},
    ]
    return subscribe(
        sandbox,
        items=items,
        discounts=[{"coupon": "loyal"}],
        default_tax_rates=[rate.body["id"]],
        description="as it is",
        metadata={"type": "kiloclaw"},
    )


def sent_back(phase: dict[str, Any]) -> dict[str, Any]:
    """A phase as it was returned, as a client sends it back: objects by their ids, nulls and empty lists left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [one["id"] if one.get("object") == "tax_rate" else plain(one) for one in value]
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items() if each not in (None, [], {}) and name != "plan"}
        return value

    return dict(plain(phase))


def test_phases_are_returned_whole_and_taken_back_unchanged(sandbox: Sandbox) -> None:
    """SBX-80"""
    one = rich(sandbox)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    [phase] = made["phases"]
    assert [item["price"] for item in phase["items"]] == ["price_month", "price_addon", "price_use"]
    assert "quantity" not in phase["items"][2]
    assert (phase["items"][0]["metadata"], phase["description"]) == ({"seat": "a"}, "as it is")
    before = get(sandbox, one["id"])
    asked = {"phases": [sent_back(phase)], "end_behavior": made["end_behavior"]}
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked)
    assert answer.status == 200, answer.body
    assert answer.body["phases"] == made["phases"]
    assert get(sandbox, one["id"]) == before


def test_a_phase_that_exchanges_one_item_keeps_the_others(sandbox: Sandbox) -> None:
    """SBX-80"""
    one = rich(sandbox)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    now = sent_back(made["phases"][0])
    later = {**now, "start_date": now["end_date"], "items": [{**now["items"][0], "price": "price_half_year"}]}
    later["items"] += now["items"][1:]
    del later["end_date"]
    path = f"/v1/subscription_schedules/{made['id']}"
    assert sandbox.request("POST", path, {"phases": [now, later]}).status == 200
    sandbox.set_clock(now["end_date"] + 1)
    after = get(sandbox, one["id"])
    names = ("id", "metadata", "discounts", "tax_rates")
    assert [item["price"]["id"] for item in after["items"]["data"]] == ["price_half_year", "price_addon", "price_use"]
    for was, becomes in zip(one["items"]["data"], after["items"]["data"], strict=True):
        assert {name: was[name] for name in names} == {name: becomes[name] for name in names}
        assert was.get("quantity") == becomes.get("quantity")
    assert (after["discounts"], after["default_tax_rates"]) == (one["discounts"], one["default_tax_rates"])
    assert (after["description"], after["metadata"]) == ("as it is", {"type": "kiloclaw"})


def test_what_a_phase_leaves_out_is_gone_when_it_begins(sandbox: Sandbox) -> None:
    """SBX-80: the item at once where the current phase leaves it out, the coupon with the next one"""
    one = rich(sandbox)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    now = sent_back(made["phases"][0])
    now["items"] = now["items"][:2]
    asked = {"phases": [now, {"items": now["items"]}], "proration_behavior": "none"}
    assert sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked).status == 200
    after = get(sandbox, one["id"])
    assert [item["price"]["id"] for item in after["items"]["data"]] == ["price_month", "price_addon"]
    assert after["discounts"] == one["discounts"]
    sandbox.set_clock(now["end_date"] + 1)
    assert get(sandbox, one["id"])["discounts"] == []


@pytest.mark.parametrize("end_behavior", ["cancel", "release"])
def test_a_schedule_of_others_ends_or_lets_go(sandbox: Sandbox, end_behavior: str) -> None:
    """SBX-81"""
    asked = {
        "customer": "cus_ann",
        "start_date": "now",
        "end_behavior": end_behavior,
        "phases": [
            {
                "items": [{"price": "price_month"}],
                "duration": {"interval": "month", "interval_count": 2},
                "metadata": {"a": "1"},
            }
        ],
    }
    made = sandbox.request("POST", "/v1/subscription_schedules", asked).body
    one = get(sandbox, made["subscription"])
    end = made["phases"][-1]["end_date"]
    assert (one["schedule"], one["metadata"]) == (made["id"], {"a": "1"})
    assert one["cancel_at"] == (end if end_behavior == "cancel" else None)
    refused = sandbox.request("POST", f"/v1/subscriptions/{one['id']}", {"cancel_at_period_end": "true"})
    assert refused.status == 400
    sandbox.set_clock(end + 1)
    after = get(sandbox, one["id"])
    schedule = sandbox.request("GET", f"/v1/subscription_schedules/{made['id']}").body
    wanted = ("canceled", "completed") if end_behavior == "cancel" else ("active", "released")
    assert (after["status"], schedule["status"]) == wanted


@pytest.mark.parametrize("preserve", [True, False])
def test_release_keeps_the_end_only_where_it_is_asked_to(sandbox: Sandbox, preserve: bool) -> None:
    """SBX-81"""
    one = subscribe(sandbox, cancel_at_period_end=True)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    assert made["end_behavior"] == "cancel"
    path = f"/v1/subscription_schedules/{made['id']}/release"
    assert sandbox.request("POST", path, {"preserve_cancel_date": preserve}).status == 200
    assert (get(sandbox, one["id"])["cancel_at"] is not None) is preserve


def test_a_schedule_that_has_not_begun_begins_in_time(sandbox: Sandbox) -> None:
    """SBX-81, SBX-36"""
    start = int(sandbox.clock.now()) + 86400
    asked = {"customer": "cus_ann", "start_date": start, "phases": [{"items": [{"price": "price_month"}]}]}
    made = sandbox.request("POST", "/v1/subscription_schedules", asked).body
    assert (made["status"], made["subscription"], made["current_phase"]) == ("not_started", None, None)
    sandbox.set_clock(start + 1)
    begun = sandbox.request("GET", f"/v1/subscription_schedules/{made['id']}").body
    assert begun["status"] == "active"
    assert get(sandbox, begun["subscription"])["items"]["data"][0]["current_period_start"] == start


def test_a_phase_that_ends_in_the_middle_of_a_period_is_prorated(sandbox: Sandbox) -> None:
    """SBX-36, SBX-77"""
    one = subscribe(sandbox)
    item = one["items"]["data"][0]
    middle = (item["current_period_start"] + item["current_period_end"]) // 2
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    now = {**sent_back(made["phases"][0]), "end_date": middle}
    later = {"items": [{"price": "price_month", "quantity": 3}], "proration_behavior": "always_invoice"}
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", {"phases": [now, later]})
    assert answer.status == 200, answer.body
    sandbox.set_clock(middle + 1)
    after = get(sandbox, one["id"])
    assert after["items"]["data"][0]["quantity"] == 3
    invoice = sandbox.request("GET", f"/v1/invoices/{after['latest_invoice']}").body
    assert (invoice["total"], invoice["billing_reason"]) == (900, "subscription_update")


def test_phases_keep_the_currency_of_the_subscription(sandbox: Sandbox) -> None:
    """SBX-82: by the price and by the parameter."""
    euros = {"currency": "eur", "unit_amount": 200, "recurring": {"interval": "month"}}
    sandbox.seed([{"object": "price", "id": "price_euros", **euros}])
    one = subscribe(sandbox)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    first = sent_back(made["phases"][0])
    for then in ({"items": [{"price": "price_euros"}]}, {"items": [{"price": "price_month"}], "currency": "eur"}):
        asked = {"phases": [first, then]}
        answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked)
        assert answer.status == 400
        assert "doesn't match the expected currency" in answer.body["error"]["message"]
        assert answer.body["error"]["param"] == "phases[1][items][0][price]"


def test_several_intervals_are_for_flexible_billing_mode(sandbox: Sandbox) -> None:
    """SBX-95: by a change, and by a phase."""
    for mode, status in (("classic", 400), ("flexible", 200)):
        one = subscribe(sandbox, billing_mode={"type": mode})
        made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
        both = {"items": [{"price": "price_month"}, {"price": "price_half_year"}]}
        asked = {"phases": [sent_back(made["phases"][0]), both]}
        answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked)
        assert answer.status == status, answer.body
        sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}/release")
        added = {"items": [{"price": "price_half_year"}]}
        answer = sandbox.request("POST", f"/v1/subscriptions/{one['id']}", added)
        assert answer.status == status, answer.body
        assert status == 200 or "billing_mode" in answer.body["error"]["message"]


def test_one_off_items_of_a_phase_are_billed_once(sandbox: Sandbox) -> None:
    """SBX-96: of one that begins, and of the one that runs."""
    sandbox.seed([{"object": "price", "id": "price_setup", "currency": "usd", "unit_amount": 500}])
    one = subscribe(sandbox)
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]}).body
    once = {"add_invoice_items": [{"price": "price_setup"}]}
    month = {"items": [{"price": "price_month"}], "duration": {"interval": "month", "interval_count": 1}}
    asked = {"phases": [sent_back(made["phases"][0]), month, month | once, month]}
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked)
    assert answer.status == 200, answer.body
    assert [item["price"] for item in answer.body["phases"][2]["add_invoice_items"]] == ["price_setup"]
    now = sent_back(answer.body["phases"][0]) | once
    rest = [sent_back(phase) for phase in answer.body["phases"][1:]]
    changed = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", {"phases": [now, *rest]})
    assert changed.status == 200, changed.body
    totals = []
    for _ in range(3):
        sandbox.set_clock(get(sandbox, one["id"])["items"]["data"][0]["current_period_end"] + 1)
        latest = get(sandbox, one["id"])["latest_invoice"]
        totals.append(sandbox.request("GET", f"/v1/invoices/{latest}").body["total"])
    price = one["items"]["data"][0]["price"]["unit_amount"]
    assert totals == [price + 500, price + 500, price]
    recurring = {"phases": [{**now, "add_invoice_items": [{"price": "price_month"}]}]}
    assert sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", recurring).status == 400
