"""The payment page: what a buyer sees, and where each of the three buttons leads."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from sandbox import Sandbox

Open = Callable[..., dict[str, Any]]


def page(url: str, session: dict[str, Any]) -> requests.Response:
    return requests.get(f"{url}/pay/{session['id']}", timeout=5)


def press(url: str, session: dict[str, Any], action: str) -> requests.Response:
    return requests.post(f"{url}/pay/{session['id']}/{action}", timeout=15, allow_redirects=False)


def test_the_page_says_what_is_bought_and_that_no_money_moves(url: str, open_session: Open) -> None:
    # SBX-60
    session = open_session(line_items=[{"price": "price_month", "quantity": 2}], discounts=[{"coupon": "half_once"}])
    shown = page(url, session)
    assert shown.status_code == 200
    for words in (
        "Sandbox: no real money",
        "KiloClaw",
        "Quantity 2, $9.00 each",
        "First month offer",
        "\u2212$9.00",
        "Total due today",
        "then $18.00 per month",
        "ann@example.com",
    ):
        assert words in shown.text
    assert [shown.text.count(f'data-action="{name}"') for name in ("pay", "decline", "leave")] == [1, 1, 1]
    assert shown.headers["Cache-Control"] == "no-store"
    assert "<script" not in shown.text


def test_a_trial_says_what_comes_later(url: str, open_session: Open) -> None:
    # SBX-60
    shown = page(url, open_session(subscription_data={"trial_period_days": 7}))
    assert "Free trial" in shown.text
    assert "$0.00" in shown.text
    assert "then $9.00 per month from" in shown.text


def test_pay_leads_to_the_success_url_with_the_session_in_it(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-61
    session = open_session()
    answer = press(url, session, "pay")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"http://shop.example/done?session={session['id']}"
    assert sandbox.session(session["id"])["status"] == "complete"  # type: ignore[index]


def test_a_declined_card_is_said_plainly_and_the_page_stays(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-61
    session = open_session()
    answer = press(url, session, "decline")
    assert answer.status_code == 402
    assert "Your card was declined" in answer.text
    assert 'data-action="pay"' in answer.text
    assert sandbox.session(session["id"])["status"] == "open"  # type: ignore[index]


def test_leave_leads_to_the_cancel_url_and_the_session_stays_open(
    url: str, sandbox: Sandbox, open_session: Open
) -> None:
    # SBX-61
    session = open_session()
    answer = press(url, session, "leave")
    assert (answer.status_code, answer.headers["Location"]) == (303, "http://shop.example/left")
    assert "left without paying" in press(url, open_session(cancel_url=""), "leave").text
    assert sandbox.session(session["id"])["status"] == "open"  # type: ignore[index]


def test_a_page_left_open_does_not_pay_an_expired_session(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-62
    session = open_session()
    sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire")
    assert (page(url, session).status_code, "has expired" in page(url, session).text) == (410, True)
    for action in ("pay", "decline"):
        answer = press(url, session, action)
        assert (answer.status_code, "has expired" in answer.text) == (409, True)
    assert sandbox.request("GET", "/v1/subscriptions").body["data"] == []


def test_a_paid_page_says_so(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-62
    session = open_session()
    sandbox.pay(session["id"])
    assert "This has been paid" in page(url, session).text
    assert press(url, session, "pay").status_code == 409


@pytest.mark.parametrize("id", ["cs_test_nothing", "..%2f", "<script>"])
def test_an_unknown_page_is_a_404(url: str, id: str) -> None:
    # SBX-62
    answer = requests.get(f"{url}/pay/{id}", timeout=5)
    assert answer.status_code == 404
    assert "<script>" not in answer.text


def test_names_from_outside_are_escaped(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-60
    sandbox.request("POST", "/v1/products/prod_claw", {"name": "<b onclick=x>Claw"})
    assert "<b onclick" not in page(url, open_session()).text


def test_the_public_url_makes_the_links(open_session: Open) -> None:
    # SBX-10
    sandbox = Sandbox(public_url="https://pay.example/")
    sandbox.seed([{"object": "price", "id": "p", "unit_amount": 1, "recurring": {"interval": "month"}}])
    sent = {"mode": "subscription", "success_url": "http://x", "line_items": [{"price": "p", "quantity": 1}]}
    session = sandbox.request("POST", "/v1/checkout/sessions", sent).body
    assert session["url"] == f"https://pay.example/pay/{session['id']}"


def test_the_portal_cancels_at_the_end_and_takes_it_back(url: str, sandbox: Sandbox, open_session: Open) -> None:
    # SBX-63
    subscription = sandbox.pay(open_session()["id"])["subscription"]
    made = sandbox.request(
        "POST",
        "/v1/billing_portal/sessions",
        {"customer": "cus_ann", "return_url": "http://shop.example/"},
        base_url=url,
    ).body
    assert "KiloClaw" in requests.get(made["url"], timeout=5).text
    for action, leaving in (("cancel", True), ("resume", False)):
        shown = requests.post(f"{made['url']}/{subscription}/{action}", timeout=5)
        assert ("Keep it" in shown.text) is leaving
        found = sandbox.request("GET", f"/v1/subscriptions/{subscription}").body
        assert (found["cancel_at"] is not None) is leaving
        assert not found["cancel_at_period_end"]  # so the portal does it in flexible billing mode
    assert requests.get(f"{url}/portal/guess", timeout=5).status_code == 404
    sandbox.pay(open_session(customer="cus_bob")["id"])
    other = sandbox.request("GET", "/v1/subscriptions", {"customer": "cus_bob"}).body["data"][0]["id"]
    assert requests.post(f"{made['url']}/{other}/cancel", timeout=5).status_code == 404


def test_a_bank_that_asks_is_a_page_between_the_card_and_the_payment(
    url: str, sandbox: Sandbox, open_session: Open
) -> None:
    # SBX-64, SBX-65
    session = open_session()
    answer = press(url, session, "challenge")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/pay/{session['id']}/authenticate")
    asked = requests.get(f"{url}/pay/{session['id']}/authenticate", timeout=5)
    assert [asked.text.count(f'data-action="{name}"') for name in ("authenticate", "refuse")] == [1, 1]
    assert "$9.00" in asked.text
    where = f"{url}/pay/{session['id']}/authenticate"
    no = requests.post(where, {"answer": "no"}, timeout=15, allow_redirects=False)
    assert (no.status_code, "could not confirm" in no.text, 'data-action="pay"' in no.text) == (402, True, True)
    yes = requests.post(where, {"answer": "yes"}, timeout=15, allow_redirects=False)
    assert (yes.status_code, yes.headers["Location"]) == (303, f"http://shop.example/done?session={session['id']}")
    assert len(sandbox.request("GET", "/v1/subscriptions").body["data"]) == 1


def test_a_session_that_is_expired_while_the_bank_asks_takes_no_money(
    url: str, sandbox: Sandbox, open_session: Open
) -> None:
    """SBX-62, SBX-66; fault 41: as the buyer sees it."""
    session = open_session()
    press(url, session, "challenge")
    assert sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire").status == 200
    late = requests.post(f"{url}/pay/{session['id']}/authenticate", {"answer": "yes"}, timeout=15)
    assert (late.status_code, "has expired" in late.text) == (409, True)
    assert sandbox.request("GET", "/v1/charges").body["data"] == []


def test_where_nothing_is_due_there_is_nothing_to_authenticate(url: str, open_session: Open) -> None:
    # SBX-60
    session = open_session(subscription_data={"trial_period_days": 7})
    assert 'data-action="challenge"' not in page(url, session).text
    assert press(url, session, "challenge").status_code == 409
