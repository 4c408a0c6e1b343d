"""Subscriptions: listed, changed, cancelled, renewed by the clock, forced into a status."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.periods import next_end, step


def subscribe(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    answer = sandbox.request(
        "POST", "/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": "price_month"}], **more}
    )
    assert answer.status == 200, answer.body
    return answer.body


def newest(sandbox: Sandbox) -> dict[str, Any]:
    return next(sandbox.store.newest_first("event"))


def get(sandbox: Sandbox, id: str) -> dict[str, Any]:
    return sandbox.request("GET", f"/v1/subscriptions/{id}").body


def test_the_default_list_leaves_out_canceled_ones(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    # SBX-30
    kept, gone = subscribe(sandbox)["id"], subscribe(sandbox)["id"]
    waiting = subscribe(sandbox, payment_behavior="default_incomplete")["id"]
    client.v1.subscriptions.cancel(gone)

    def ids(**filters: Any) -> list[str]:
        return [one.id for one in client.v1.subscriptions.list({"customer": "cus_ann", **filters}).data]

    assert ids() == [waiting, kept]
    assert ids(status="all") == [waiting, gone, kept]
    assert ids(status="canceled") == [gone]
    assert ids(status="incomplete") == [waiting]
    assert ids(price="price_half_year") == []


def test_cancelling_twice_is_a_404(sandbox: Sandbox) -> None:
    # SBX-30
    id = subscribe(sandbox)["id"]
    gone = sandbox.request("DELETE", f"/v1/subscriptions/{id}").body
    assert (gone["status"], gone["ended_at"]) == ("canceled", gone["canceled_at"])
    assert newest(sandbox)["type"] == "customer.subscription.deleted"
    again = sandbox.request("DELETE", f"/v1/subscriptions/{id}")
    assert (again.status, again.body["error"]["code"]) == (404, "resource_missing")
    refused = sandbox.request("POST", f"/v1/subscriptions/{id}", {"cancel_at_period_end": "true"})
    assert refused.status == 400


def test_a_cancellation_at_period_end_can_be_taken_back(sandbox: Sandbox) -> None:
    # SBX-31
    one = subscribe(sandbox)
    end = one["items"]["data"][0]["current_period_end"]
    path = f"/v1/subscriptions/{one['id']}"
    leaving = sandbox.request("POST", path, {"cancel_at_period_end": "true"}).body
    assert (leaving["cancel_at_period_end"], leaving["cancel_at"], leaving["status"]) == (True, end, "active")
    event = newest(sandbox)
    assert event["type"] == "customer.subscription.updated"
    assert event["data"]["previous_attributes"]["cancel_at_period_end"] is False
    back = sandbox.request("POST", path, {"cancel_at_period_end": "false"}).body
    assert (back["cancel_at_period_end"], back["cancel_at"], back["canceled_at"]) == (False, None, None)


def test_the_clock_ends_what_was_cancelled_at_period_end(sandbox: Sandbox) -> None:
    # SBX-32
    one = subscribe(sandbox)
    sandbox.request("POST", f"/v1/subscriptions/{one['id']}", {"cancel_at_period_end": "true"})
    sandbox.advance(32 * 86400)
    assert get(sandbox, one["id"])["status"] == "canceled"
    assert newest(sandbox)["type"] == "customer.subscription.deleted"


def test_the_clock_renews_and_bills(sandbox: Sandbox) -> None:
    # SBX-32
    one = subscribe(sandbox)
    start = one["items"]["data"][0]["current_period_end"]
    sandbox.advance(32 * 86400)
    item = get(sandbox, one["id"])["items"]["data"][0]
    assert item["current_period_start"] == start
    assert item["current_period_end"] > start
    invoices = sandbox.request("GET", "/v1/invoices", {"subscription": one["id"]}).body["data"]
    assert [invoice["billing_reason"] for invoice in invoices] == ["subscription_cycle", "subscription_create"]
    assert {invoice["amount_paid"] for invoice in invoices} == {900}


def test_a_trial_becomes_active_and_is_billed(sandbox: Sandbox) -> None:
    # SBX-32
    one = subscribe(sandbox, trial_period_days=7)
    assert one["status"] == "trialing"
    sandbox.advance(8 * 86400)
    now = get(sandbox, one["id"])
    assert now["status"] == "active"
    assert now["items"]["data"][0]["current_period_start"] == one["trial_end"]
    assert sandbox.request("GET", f"/v1/invoices/{now['latest_invoice']}").body["amount_paid"] == 900


def test_an_incomplete_subscription_expires_after_23_hours(sandbox: Sandbox) -> None:
    # SBX-32
    one = subscribe(sandbox, payment_behavior="default_incomplete")
    assert one["status"] == "incomplete"
    sandbox.advance(23 * 3600 + 1)
    assert get(sandbox, one["id"])["status"] == "incomplete_expired"


def test_another_price_of_another_interval_starts_a_new_period(sandbox: Sandbox) -> None:
    # SBX-33
    one = subscribe(sandbox)
    item = one["items"]["data"][0]["id"]
    sandbox.advance(5 * 86400)
    path = f"/v1/subscriptions/{one['id']}"
    after = sandbox.request("POST", path, {"items": [{"id": item, "price": "price_half_year"}]}).body
    changed = after["items"]["data"][0]
    assert (changed["id"], changed["price"]["id"], changed["plan"]["interval_count"]) == (item, "price_half_year", 6)
    assert changed["current_period_start"] >= one["created"] + 5 * 86400
    assert after["latest_invoice"] != one["latest_invoice"]
    refused = sandbox.request("POST", path, {"items": [{"id": "si_other", "price": "price_month"}]})
    assert refused.status == 400


@pytest.mark.parametrize("status", ["past_due", "unpaid", "paused", "incomplete", "trialing", "canceled"])
def test_any_status_can_be_forced_with_its_events(sandbox: Sandbox, status: str) -> None:
    # SBX-34
    one = subscribe(sandbox)
    assert sandbox.force_status(one["id"], status)["status"] == status
    assert get(sandbox, one["id"])["status"] == status
    wanted = "customer.subscription.deleted" if status == "canceled" else "customer.subscription.updated"
    assert newest(sandbox)["type"] == wanted
    assert newest(sandbox)["data"]["object"]["status"] == status


def test_deleting_a_customer_cancels_the_subscriptions(sandbox: Sandbox, open_session: Callable[..., Any]) -> None:
    # SBX-30
    one = subscribe(sandbox)
    sandbox.request("DELETE", "/v1/customers/cus_ann")
    assert get(sandbox, one["id"])["status"] == "canceled"
    refused = sandbox.request("POST", "/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": "price_month"}]})
    assert (refused.status, refused.body["error"]["param"]) == (400, "customer")


def test_metadata_of_a_subscription_is_merged(sandbox: Sandbox) -> None:
    # SBX-31
    one = subscribe(sandbox, metadata={"a": "1", "b": "2"})
    sandbox.request("POST", f"/v1/subscriptions/{one['id']}", {"metadata": {"b": "", "c": "3"}})
    assert get(sandbox, one["id"])["metadata"] == {"a": "1", "c": "3"}


@pytest.mark.parametrize(
    ("start", "interval", "count", "times", "wanted"),
    [
        ("2026-01-31", "month", 1, 1, "2026-02-28"),
        ("2026-01-31", "month", 1, 2, "2026-03-31"),
        ("2024-02-29", "year", 1, 1, "2025-02-28"),
        ("2026-11-15", "month", 6, 1, "2027-05-15"),
        ("2026-12-30", "week", 1, 1, "2027-01-06"),
        ("2026-12-31", "day", 1, 1, "2027-01-01"),
    ],
)
def test_periods_are_calendar_steps(start: str, interval: str, count: int, times: int, wanted: str) -> None:
    # SBX-32
    def at(day: str) -> int:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())

    recurring = {"interval": interval, "interval_count": count}
    assert step(at(start), recurring, times) == at(wanted)


def test_the_next_end_lies_after_its_start() -> None:
    # SBX-32
    recurring = {"interval": "month", "interval_count": 1}
    anchor = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
    moment = anchor
    for _ in range(200):
        end = next_end(anchor, moment, recurring)
        assert 28 * 86400 <= end - moment <= 31 * 86400
        moment = end


def test_arrears_have_an_open_invoice_that_a_recovery_pays(sandbox: Sandbox) -> None:
    # SBX-34
    one = subscribe(sandbox)
    behind = sandbox.force_status(one["id"], "past_due")
    invoice = sandbox.request("GET", f"/v1/invoices/{behind['latest_invoice']}").body
    assert (invoice["status"], invoice["attempt_count"], invoice["amount_remaining"]) == ("open", 1, 900)
    types = [event["type"] for event in sandbox.store.newest_first("event")]
    assert types[:2] == ["customer.subscription.updated", "invoice.payment_failed"]
    assert sandbox.force_status(one["id"], "unpaid")["latest_invoice"] == behind["latest_invoice"]
    sandbox.force_status(one["id"], "active")
    invoice = sandbox.request("GET", f"/v1/invoices/{behind['latest_invoice']}").body
    assert (invoice["status"], invoice["attempt_count"], invoice["amount_remaining"]) == ("paid", 2, 0)


def test_an_incomplete_subscription_becomes_active_when_its_invoice_is_paid(sandbox: Sandbox) -> None:
    # SBX-34
    one = subscribe(sandbox, payment_behavior="default_incomplete")
    sandbox.force_status(one["id"], "active")
    invoice = sandbox.request("GET", f"/v1/invoices/{one['latest_invoice']}").body
    assert (invoice["status"], invoice["amount_paid"]) == ("paid", 900)
    sandbox.advance(24 * 3600)
    assert get(sandbox, one["id"])["status"] == "active"
