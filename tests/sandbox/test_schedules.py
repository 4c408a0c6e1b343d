"""Subscription schedules: a plan change that waits for the period's end, taken back, refused when it is over."""

from typing import Any

import pytest
import stripe

from sandbox import Sandbox


def subscribe(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    asked = {"customer": "cus_ann", "items": [{"price": "price_month"}], **more}
    answer = sandbox.request("POST", "/v1/subscriptions", asked)
    assert answer.status == 200, answer.body
    return answer.body


def get(sandbox: Sandbox, id: str) -> dict[str, Any]:
    return sandbox.request("GET", f"/v1/subscriptions/{id}").body


def planned(sandbox: Sandbox, subscription: dict[str, Any], price: str = "price_half_year") -> dict[str, Any]:
    """A schedule that brings another price at the period's end."""
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": subscription["id"]}).body
    now = made["phases"][0]
    first = {name: now[name] for name in ("start_date", "end_date")} | {"items": [{"price": "price_month"}]}
    phases = [first, {"items": [{"price": price}]}]
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", {"phases": phases})
    assert answer.status == 200, answer.body
    return answer.body


def types(sandbox: Sandbox) -> list[str]:
    return [one["type"] for one in sandbox.store.newest_first("event")]


def test_schedule_made_from_a_subscription_is_the_subscription_as_it_is(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    # SBX-35
    one = subscribe(sandbox)
    made = client.v1.subscription_schedules.create({"from_subscription": one["id"]})

    assert (made.status, made.end_behavior, made.subscription) == ("active", "release", one["id"])
    [phase] = made.phases
    item = one["items"]["data"][0]
    assert (phase.start_date, phase.end_date) == (item["current_period_start"], item["current_period_end"])
    assert get(sandbox, one["id"])["schedule"] == made.id
    assert types(sandbox)[:2] == ["customer.subscription.updated", "subscription_schedule.created"]
    again = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": one["id"]})
    assert again.status == 400
    assert "already attached" in again.body["error"]["message"]


def test_next_phase_begins_with_the_period_after(sandbox: Sandbox) -> None:
    # SBX-36
    one = subscribe(sandbox)
    schedule = planned(sandbox, one)
    end = one["items"]["data"][0]["current_period_end"]
    assert [phase["start_date"] for phase in schedule["phases"]][1] == end
    sandbox.set_clock(end + 1)

    after = get(sandbox, one["id"])
    item = after["items"]["data"][0]
    assert (item["price"]["id"], item["id"]) == ("price_half_year", one["items"]["data"][0]["id"])
    assert item["current_period_start"] == end
    invoice = next(sandbox.store.newest_first("invoice"))
    assert (invoice["amount_paid"], after["status"]) == (4800, "active")
    assert len(list(sandbox.store.newest_first("subscription"))) == 1
    sandbox.set_clock(item["current_period_end"] + 1)
    assert get(sandbox, one["id"])["schedule"] is None
    assert sandbox.store.all("subscription_schedule")[0]["status"] == "released"


def test_released_schedule_lets_the_subscription_go_on_as_it_is(sandbox: Sandbox) -> None:
    # SBX-37
    one = subscribe(sandbox)
    schedule = planned(sandbox, one)
    refused = sandbox.request("POST", f"/v1/subscriptions/{one['id']}", {"cancel_at_period_end": "true"})
    assert refused.status == 400
    assert schedule["id"] in refused.body["error"]["message"]

    released = sandbox.request("POST", f"/v1/subscription_schedules/{schedule['id']}/release").body

    assert (released["status"], released["subscription"]) == ("released", None)
    assert released["released_subscription"] == one["id"]
    assert get(sandbox, one["id"])["schedule"] is None
    sandbox.set_clock(one["items"]["data"][0]["current_period_end"] + 1)
    assert get(sandbox, one["id"])["items"]["data"][0]["price"]["id"] == "price_month"


@pytest.mark.parametrize("call", ["", "/release"])
def test_schedule_that_is_over_refuses_every_change(sandbox: Sandbox, call: str) -> None:
    # SBX-37
    schedule = planned(sandbox, subscribe(sandbox))
    sandbox.request("POST", f"/v1/subscription_schedules/{schedule['id']}/release")
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{schedule['id']}{call}", {})
    assert answer.status == 400
    assert "`released` status" in answer.body["error"]["message"]
    assert "code" not in answer.body["error"]


def test_end_of_a_subscription_is_the_end_of_its_schedule(sandbox: Sandbox) -> None:
    # SBX-37
    one = subscribe(sandbox)
    schedule = planned(sandbox, one)
    sandbox.request("DELETE", f"/v1/subscriptions/{one['id']}")
    found = sandbox.request("GET", f"/v1/subscription_schedules/{schedule['id']}").body
    assert found["status"] == "canceled"


@pytest.mark.parametrize(
    ("phases", "param"),
    [
        ([], "phases"),
        ([{"start_date": 1, "items": [{"price": "price_month"}]}], "phases[0][start_date]"),
        ([{"items": [{"price": "price_month"}]}], "phases[0][start_date]"),
        ([{"items": []}], "phases[0][items]"),
    ],
)
def test_phases_that_make_no_sense_are_refused(sandbox: Sandbox, phases: list[Any], param: str) -> None:
    # SBX-35
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": subscribe(sandbox)["id"]}).body
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", {"phases": phases})
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


def test_next_phase_with_a_price_that_is_not_there_is_refused(sandbox: Sandbox) -> None:
    # SBX-35
    made = sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": subscribe(sandbox)["id"]}).body
    now = made["phases"][0]
    first = {"start_date": now["start_date"], "end_date": now["end_date"], "items": [{"price": "price_month"}]}
    asked = {"phases": [first, {"items": [{"price": "price_gone"}]}]}
    answer = sandbox.request("POST", f"/v1/subscription_schedules/{made['id']}", asked)
    assert (answer.status, answer.body["error"]["code"]) == (400, "resource_missing")


@pytest.mark.parametrize("end_behavior", ["cancel", "release"])
def test_the_end_of_a_schedule_is_told_a_week_before_and_when_it_is_there(sandbox: Sandbox, end_behavior: str) -> None:
    """SBX-103, SBX-81: as Stripe's CLI expects of both."""
    asked = {"customer": "cus_ann", "end_behavior": end_behavior, "phases": [{"items": [{"price": "price_month"}]}]}
    made = sandbox.request("POST", "/v1/subscription_schedules", asked).body
    end = made["phases"][0]["end_date"]
    sandbox.set_clock(end - 7 * 86400 - 2)
    get(sandbox, made["subscription"])
    assert "subscription_schedule.expiring" not in types(sandbox)
    sandbox.set_clock(end - 7 * 86400)
    assert types(sandbox).count("subscription_schedule.expiring") == 1
    sandbox.set_clock(end)
    told = [one.removeprefix("subscription_schedule.") for one in types(sandbox) if one.startswith("subscription_sch")]
    wanted = {"cancel": ["completed"], "release": ["released", "completed"]}  # newest first
    assert told[: told.index("expiring")] == wanted[end_behavior]


@pytest.mark.parametrize("over", ["/v1/subscription_schedules/{}/release", "/v1/subscription_schedules/{}/cancel"])
def test_the_end_is_told_for_the_phases_that_are_there_and_of_none_that_is_over(sandbox: Sandbox, over: str) -> None:
    """SBX-103: another phase puts it off; a schedule that was released or canceled says nothing."""
    one = subscribe(sandbox)
    end = one["items"]["data"][0]["current_period_end"]
    schedule = planned(sandbox, one, "price_month")
    sandbox.set_clock(end)
    assert "subscription_schedule.expiring" not in types(sandbox)
    assert sandbox.request("POST", over.format(schedule["id"])).status == 200
    sandbox.set_clock(schedule["phases"][-1]["end_date"])
    assert "subscription_schedule.expiring" not in types(sandbox)


def test_a_schedule_begins_a_subscription_also_without_a_card(sandbox: Sandbox) -> None:
    """SBX-72: now or later, and then it is past due."""
    for days in (0, 1):
        start = int(sandbox.clock.now()) + days * 86400 + 1
        asked: dict[str, Any] = {"customer": "cus_bob", "phases": [{"items": [{"price": "price_month"}]}]}
        asked |= {"start_date": start} if days else {}
        made = sandbox.request("POST", "/v1/subscription_schedules", asked).body
        sandbox.set_clock(start)
        begun = sandbox.request("GET", f"/v1/subscription_schedules/{made['id']}").body
        subscription = get(sandbox, begun["subscription"])
        invoice = sandbox.request("GET", f"/v1/invoices/{subscription['latest_invoice']}").body
        assert (begun["status"], subscription["status"], invoice["status"]) == ("active", "past_due", "open")


def test_a_schedule_that_waits_ends_with_its_customer(sandbox: Sandbox) -> None:
    """SBX-81: it is nobody's to begin later."""
    start = int(sandbox.clock.now()) + 86400
    asked = {"customer": "cus_ann", "start_date": start, "phases": [{"items": [{"price": "price_month"}]}]}
    made = sandbox.request("POST", "/v1/subscription_schedules", asked).body
    assert sandbox.request("DELETE", "/v1/customers/cus_ann").status == 200
    sandbox.set_clock(start + 1)
    assert sandbox.request("GET", f"/v1/subscription_schedules/{made['id']}").body["status"] == "canceled"
    assert types(sandbox)[:2] == ["customer.deleted", "subscription_schedule.canceled"]
