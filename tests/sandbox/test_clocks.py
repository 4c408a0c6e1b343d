"""Stripe's test clocks: customers in a time of their own, advanced by hand, within Stripe's limits."""

from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from tests.sandbox.conftest import session_params

NOW = 1_780_000_000  # 2026-05-28 20:26:40 UTC
THEN = 1_577_836_800  # 2020-01-01 00:00:00 UTC
DAY = 86400
CLOCKS = "/v1/test_helpers/test_clocks"
MONTH: dict[str, Any] = {"items": [{"price": "price_month"}]}


@pytest.fixture
def sandbox(catalog: list[dict[str, Any]]) -> Sandbox:
    one = Sandbox(clock=lambda: float(NOW), seed="clocks")
    one.seed(catalog)
    return one


def post(sandbox: Sandbox, path: str, status: int = 200, **params: Any) -> dict[str, Any]:
    answer = sandbox.request("POST", path, params)
    assert answer.status == status, answer.body
    return answer.body


def get(sandbox: Sandbox, path: str, **params: Any) -> dict[str, Any]:
    answer = sandbox.request("GET", path, params)
    assert answer.status == 200, answer.body
    return answer.body


def clock_of(sandbox: Sandbox, at: int = THEN) -> str:
    return str(post(sandbox, CLOCKS, frozen_time=at)["id"])


def buyer_on(sandbox: Sandbox, clock: str, card: str | None = "pm_card_visa") -> str:
    id = str(post(sandbox, "/v1/customers", test_clock=clock)["id"])
    if card:
        sandbox.give_card(id, card)
    return id


def advance(sandbox: Sandbox, clock: str, to: int) -> dict[str, Any]:
    post(sandbox, f"{CLOCKS}/{clock}/advance", frozen_time=to)
    return get(sandbox, f"{CLOCKS}/{clock}")


def events(sandbox: Sandbox) -> list[str]:
    return [one["type"] for one in reversed(list(sandbox.store.newest_first("event")))]


def test_a_clock_is_made_advanced_and_deleted_by_the_sdk(client: stripe.StripeClient) -> None:
    """SBX-97: the answer to an advance says where to; the next one that it is there."""
    clocks = client.v1.test_helpers.test_clocks
    made = clocks.create({"frozen_time": THEN, "name": "a year"})
    assert (made.frozen_time, made.name, made.status, made.livemode) == (THEN, "a year", "ready", False)
    assert (made.created, made.deletes_after) == (NOW, NOW + 30 * DAY)
    going = clocks.advance(made.id, {"frozen_time": THEN + DAY})
    assert (going.status, going.frozen_time) == ("advancing", THEN)
    assert going.status_details.to_dict() == {"advancing": {"target_frozen_time": THEN + DAY}}
    there = clocks.retrieve(made.id)
    assert (there.status, there.frozen_time, there.status_details.to_dict()) == ("ready", THEN + DAY, {})
    assert [one.id for one in clocks.list().data] == [made.id]
    assert clocks.delete(made.id).deleted
    with pytest.raises(stripe.InvalidRequestError, match=f"No such billingclock: '{made.id}'"):
        clocks.retrieve(made.id)
    types = [one.type.removeprefix("test_helpers.test_clock.") for one in client.v1.events.list().data]
    assert types[::-1] == ["created", "advancing", "ready", "deleted"]


def test_a_customer_and_what_is_theirs_live_in_the_clocks_time(sandbox: Sandbox) -> None:
    """SBX-98"""
    clock = clock_of(sandbox)
    ann = buyer_on(sandbox, clock)
    item = post(sandbox, "/v1/invoiceitems", customer=ann, amount=100, currency="usd")
    one = post(sandbox, "/v1/subscriptions", customer=ann, **MONTH, expand=["latest_invoice", "test_clock"])
    invoice = one["latest_invoice"]
    assert one["test_clock"]["id"] == clock
    assert {each["test_clock"] for each in (get(sandbox, f"/v1/customers/{ann}"), item, invoice)} == {clock}
    period = one["items"]["data"][0]
    moments = (one["created"], one["start_date"], period["current_period_start"], invoice["created"], item["date"])
    assert set(moments) == {THEN}
    assert invoice["status_transitions"]["paid_at"] == THEN
    assert period["current_period_end"] == THEN + 31 * DAY
    schedule = post(sandbox, "/v1/subscription_schedules", from_subscription=one["id"])
    assert (schedule["test_clock"], schedule["created"]) == (clock, THEN)


def test_events_money_and_payment_pages_are_in_real_time(sandbox: Sandbox) -> None:
    """SBX-98: as in events that were recorded, and as Stripe's people said of payment intents."""
    ann = buyer_on(sandbox, clock_of(sandbox))
    session = post(sandbox, "/v1/checkout/sessions", **session_params(customer=ann))
    assert (session["created"], session["expires_at"]) == (NOW, NOW + DAY)
    one = get(sandbox, f"/v1/subscriptions/{sandbox.pay(session['id'])['subscription']}")
    assert one["created"] == THEN
    refund = post(sandbox, "/v1/refunds", charge=sandbox.store.all("charge")[0]["id"])
    real = [*sandbox.store.all("event"), *sandbox.store.all("payment_intent"), *sandbox.store.all("payment_method")]
    assert {each["created"] for each in (*real, *sandbox.store.all("charge"), refund)} == {NOW}


def test_an_advance_does_what_is_due_each_at_its_moment(sandbox: Sandbox) -> None:
    """SBX-98, SBX-32: and nobody else's time passes."""
    clock, other = clock_of(sandbox), clock_of(sandbox)
    ann, bob = buyer_on(sandbox, clock), buyer_on(sandbox, other)
    hers, his = (post(sandbox, "/v1/subscriptions", customer=one, **MONTH)["id"] for one in (ann, bob))
    real = post(sandbox, "/v1/subscriptions", customer="cus_ann", **MONTH)["id"]
    before = [get(sandbox, f"/v1/subscriptions/{id}") for id in (his, real)]
    assert advance(sandbox, clock, THEN + 60 * DAY)["frozen_time"] == THEN + 60 * DAY  # 1 March
    renewed = get(sandbox, "/v1/invoices", subscription=hers)["data"]
    assert [one["created"] - THEN for one in renewed] == [60 * DAY, 31 * DAY, 0]
    assert [get(sandbox, f"/v1/subscriptions/{id}") for id in (his, real)] == before
    sandbox.advance(40 * DAY)
    assert len(get(sandbox, "/v1/invoices", subscription=hers)["data"]) == 3
    assert len(get(sandbox, "/v1/invoices", subscription=real)["data"]) == 2


def test_a_card_that_is_declined_is_tried_again_in_the_clocks_time(sandbox: Sandbox) -> None:
    """SBX-98, SBX-74"""
    clock = clock_of(sandbox)
    ann = buyer_on(sandbox, clock)
    one = post(sandbox, "/v1/subscriptions", customer=ann, **MONTH)
    sandbox.card_answers(one["default_payment_method"] or sandbox.store.all("payment_method")[-1]["id"], "do_not_honor")
    advance(sandbox, clock, THEN + 31 * DAY)
    late = get(sandbox, f"/v1/subscriptions/{one['id']}", expand=["latest_invoice"])
    assert late["status"] == "past_due"
    assert late["latest_invoice"]["next_payment_attempt"] == THEN + 34 * DAY
    advance(sandbox, clock, THEN + 34 * DAY)
    assert get(sandbox, f"/v1/invoices/{late['latest_invoice']['id']}")["attempt_count"] == 2


@pytest.mark.parametrize(
    ("interval", "count", "most"),
    [
        (None, 1, THEN + 731 * DAY),
        ("day", 1, THEN + 2 * DAY),
        ("week", 1, THEN + 14 * DAY),
        ("month", 1, THEN + 60 * DAY),
        ("year", 1, THEN + 731 * DAY),
        ("month", 6, THEN + 366 * DAY),
    ],
)
def test_no_clock_goes_further_than_two_intervals_or_back(
    sandbox: Sandbox, interval: str | None, count: int, most: int
) -> None:
    """SBX-99: in Stripe's words; without anything that recurs it is two years."""
    clock = clock_of(sandbox)
    if interval:
        recurring = {"interval": interval, "interval_count": count}
        sandbox.seed([{"object": "price", "id": "price_this", "unit_amount": 5, "recurring": recurring}])
        ann = buyer_on(sandbox, clock)
        post(sandbox, "/v1/subscriptions", customer=ann, items=[{"price": "price_this"}])
    for to in (THEN, THEN - 1):
        assert "only be advanced" in refused(sandbox, f"{CLOCKS}/{clock}/advance", frozen_time=to)
    words = refused(sandbox, f"{CLOCKS}/{clock}/advance", frozen_time=most + 1)
    assert words.startswith("The frozen time of this clock is 1577836800 (2020-01-01 00:00:00 UTC). You can only")
    assert f"up to {most} (" in words
    assert advance(sandbox, clock, most)["status"] == "ready"


def refused(sandbox: Sandbox, path: str, **params: Any) -> str:
    error = post(sandbox, path, 400, **params)["error"]
    assert error["type"] == "invalid_request_error"
    return str(error["message"])


def test_the_shortest_interval_counts_also_of_a_schedule_that_waits(sandbox: Sandbox) -> None:
    """SBX-99"""
    clock = clock_of(sandbox)
    ann = buyer_on(sandbox, clock)
    post(sandbox, "/v1/subscriptions", customer=ann, items=[{"price": "price_half_year"}])
    post(sandbox, "/v1/subscription_schedules", customer=ann, start_date=THEN + 90 * DAY, phases=[MONTH])
    assert "up to 1583020800 (2020-03-01" in refused(sandbox, f"{CLOCKS}/{clock}/advance", frozen_time=THEN + 61 * DAY)


def test_three_customers_and_three_subscriptions_of_each_live_on_a_clock(sandbox: Sandbox) -> None:
    """SBX-99: a schedule that waits counts; who is deleted does not."""
    clock = clock_of(sandbox)
    ann, bob, _ = (buyer_on(sandbox, clock) for _ in range(3))
    assert "up to 3 customers" in refused(sandbox, "/v1/customers", test_clock=clock)
    assert sandbox.request("DELETE", f"/v1/customers/{bob}").status == 200
    buyer_on(sandbox, clock)
    for _ in range(2):
        post(sandbox, "/v1/subscriptions", customer=ann, **MONTH)
    later: dict[str, Any] = {"customer": ann, "start_date": THEN + 5 * DAY, "phases": [MONTH]}
    post(sandbox, "/v1/subscription_schedules", **later)
    assert "up to 3 subscriptions" in refused(sandbox, "/v1/subscriptions", customer=ann, **MONTH)
    assert "up to 3 subscriptions" in refused(sandbox, "/v1/subscription_schedules", **later)
    advance(sandbox, clock, THEN + 5 * DAY)
    assert len(get(sandbox, "/v1/subscriptions", customer=ann)["data"]) == 3


def test_a_clock_takes_its_customers_with_it(sandbox: Sandbox) -> None:
    """SBX-100: deleted by a request, or 30 days after it was made."""
    for delete in (True, False):
        clock = clock_of(sandbox)
        ann = buyer_on(sandbox, clock)
        one = post(sandbox, "/v1/subscriptions", customer=ann, **MONTH)["id"]
        before = len(events(sandbox))
        if delete:
            gone = sandbox.request("DELETE", f"{CLOCKS}/{clock}").body
            assert gone == {"id": clock, "object": "test_helpers.test_clock", "deleted": True}
        else:
            sandbox.advance(30 * DAY)
        assert get(sandbox, f"/v1/customers/{ann}")["deleted"]
        assert get(sandbox, f"/v1/subscriptions/{one}")["status"] == "canceled"
        ends = ["customer.subscription.deleted", "customer.deleted", "test_helpers.test_clock.deleted"]
        assert events(sandbox)[before:] == ends
        assert sandbox.request("GET", f"{CLOCKS}/{clock}").status == 404


def test_lists_leave_out_what_lives_on_a_clock_unless_it_is_named(sandbox: Sandbox) -> None:
    """SBX-101"""
    clock = clock_of(sandbox)
    ann = buyer_on(sandbox, clock)
    one = post(sandbox, "/v1/subscriptions", customer=ann, **MONTH)["id"]
    real = post(sandbox, "/v1/subscriptions", customer="cus_ann", **MONTH)["id"]

    def ids(path: str, **params: Any) -> set[str]:
        return {each["id"] for each in get(sandbox, path, **params)["data"]}

    assert ids("/v1/customers", test_clock=clock) == {ann}
    assert ann not in ids("/v1/customers")
    assert ids("/v1/subscriptions") == {real}
    assert ids("/v1/subscriptions", customer=ann) == ids("/v1/subscriptions", test_clock=clock) == {one}
    assert ids("/v1/subscriptions", customer="cus_ann", test_clock=clock) == set()


def test_a_customer_who_was_there_before_can_be_put_on_a_new_clock(sandbox: Sandbox) -> None:
    """SBX-102: with everything that is theirs, once."""
    one = post(sandbox, "/v1/subscriptions", customer="cus_ann", **MONTH)
    asked: dict[str, Any] = {"frozen_time": NOW, "customer": "cus_ann"}
    clock = post(sandbox, CLOCKS, **asked)["id"]
    assert get(sandbox, "/v1/customers/cus_ann")["test_clock"] == clock
    assert "already attached" in refused(sandbox, CLOCKS, **asked)
    end = one["items"]["data"][0]["current_period_end"]
    sandbox.advance(25 * DAY)
    sandbox.set_clock(end + 2)  # real time passes, theirs does not
    assert len(get(sandbox, "/v1/invoices", customer="cus_ann")["data"]) == 1


def test_what_existed_moves_with_its_clock(sandbox: Sandbox) -> None:
    """SBX-102"""
    one = post(sandbox, "/v1/subscriptions", customer="cus_ann", **MONTH)
    clock = post(sandbox, CLOCKS, frozen_time=NOW, customer="cus_ann")["id"]
    end = one["items"]["data"][0]["current_period_end"]
    advance(sandbox, clock, end)
    newest = get(sandbox, "/v1/invoices", customer="cus_ann")["data"][0]
    assert (newest["created"], newest["test_clock"], newest["status"]) == (end, clock, "paid")


def test_a_clock_that_begins_after_a_period_does_not_go_back_to_bill_it(sandbox: Sandbox) -> None:
    """SBX-98, SBX-102"""
    one = post(sandbox, "/v1/subscriptions", customer="cus_ann", **MONTH)
    later = one["items"]["data"][0]["current_period_end"] + DAY
    clock = post(sandbox, CLOCKS, frozen_time=later, customer="cus_ann")["id"]
    advance(sandbox, clock, later + DAY)
    assert get(sandbox, "/v1/invoices", customer="cus_ann")["data"][0]["created"] == later


@pytest.mark.parametrize(
    ("path", "params", "status", "param"),
    [
        (CLOCKS, {}, 400, "frozen_time"),
        (CLOCKS, {"frozen_time": 99_999_999_999}, 400, "frozen_time"),
        (CLOCKS, {"frozen_time": THEN, "customer": "cus_ann"}, 501, "frozen_time"),
        (CLOCKS, {"frozen_time": NOW, "customer": "cus_nobody"}, 400, "customer"),
        (f"{CLOCKS}/clock_none/advance", {"frozen_time": NOW}, 404, "id"),
        ("/v1/customers", {"test_clock": "clock_none"}, 400, "test_clock"),
    ],
)
def test_what_cannot_be_is_refused(sandbox: Sandbox, path: str, params: Any, status: int, param: str) -> None:
    """SBX-97, SBX-102"""
    assert post(sandbox, path, status, **params)["error"]["param"] == param


def test_there_are_no_test_clocks_in_live_mode(sandbox: Sandbox) -> None:
    """SBX-97"""
    answer = sandbox.request("POST", CLOCKS, {"frozen_time": NOW}, api_key="sk_live_1")
    assert answer.status == 400
    clock = clock_of(sandbox)
    assert sandbox.request("GET", f"{CLOCKS}/{clock}", api_key="sk_live_1").status == 404


def test_a_clock_and_what_is_due_on_it_survive_a_restart(tmp_path: Any, catalog: list[dict[str, Any]]) -> None:
    """SBX-46, SBX-98"""
    path = tmp_path / "state.sqlite3"
    first = Sandbox(clock=lambda: float(NOW), state_path=path)
    first.seed(catalog)
    clock = clock_of(first)
    one = post(first, "/v1/subscriptions", customer=buyer_on(first, clock), **MONTH)["id"]
    post(first, f"{CLOCKS}/{clock}/advance", frozen_time=THEN + 31 * DAY)
    first.close()
    second = Sandbox(clock=lambda: float(NOW), state_path=path)
    assert get(second, f"{CLOCKS}/{clock}")["status"] == "ready"
    assert len(get(second, "/v1/invoices", subscription=one)["data"]) == 2
    second.close()
