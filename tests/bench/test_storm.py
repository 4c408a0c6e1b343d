"""Fifty requests of one buyer at the same moment, over HTTP, with real processes: what may be left at Stripe."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.bench.costs import UNLIMITED, know
from tests.bench.storm import (
    Answer,
    Client,
    Stripe,
    at_once,
    buy,
    buy_as_usual,
    buyers,
    onelane_shop,
    order,
    usual_shop,
)
from tests.support.running_dev import Dev

# tests/conftest.py runs these on the worker that starts everything else with many processes.

BUYERS = 50
# An expire takes effect at once and is answered so much later: time enough to catch whoever still gives out its URL.
SLOW_EXPIRE_SECONDS = 1.0
FAR_SECONDS = 0.15  # of each call to a Stripe that is far away


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dev, Stripe]]:
    """A running `onelane dev` and its sandbox; a buyer may read as often as the test wants."""
    with onelane_shop(tmp_path_factory.mktemp("storm"), **UNLIMITED) as running:
        yield running


def test_fifty_equal_requests_of_one_buyer_share_one_session(shop: tuple[Dev, Stripe]) -> None:
    """CHK-1, CHK-2, CHK-8, API-20"""
    dev, stripe = shop
    before = stripe.sessions()
    stripe.forget_calls()

    visits = at_once(buyers(dev, "ann", BUYERS), partial(buy, shop=home(dev), hasty=10))

    calls = [(call["method"], call["path"]) for call in stripe.calls()]
    assert calls.count(("POST", "/v1/checkout/sessions")) == 1
    assert calls.count(("POST", "/v1/customers")) == 1
    (made,) = [one for id_, one in stripe.sessions().items() if id_ not in before]
    assert made["status"] == "open"
    assert {visit[0].status for visit in visits} == {201, 202}
    assert {visit[-1].url for visit in visits} == {made["url"]}
    assert len({visit[0].body["id"] for visit in visits}) == BUYERS, "each is a checkout of its own"


def test_hundred_equal_requests_at_once_cost_what_one_costs(shop: tuple[Dev, Stripe]) -> None:
    """LAN-24, CHK-2: six calls, and six more at the most where this machine takes over a second to send a hundred."""
    dev, stripe = shop
    stripe.slow_down(FAR_SECONDS)
    know(dev, stripe, ["eve"])
    stripe.forget_calls()

    visits = at_once(buyers(dev, "eve", 100), partial(buy, shop=home(dev)))

    calls = [(call["method"], call["path"]) for call in stripe.calls()]
    stripe.control("DELETE", "/_sandbox/faults")
    assert calls.count(("POST", "/v1/checkout/sessions")) == 1
    assert len({visit[-1].url for visit in visits}) == 1
    assert len(calls) <= 6 + 6, calls


def test_fifty_requests_for_two_plans_leave_one_session_and_give_out_no_dead_page(shop: tuple[Dev, Stripe]) -> None:
    """CHK-1, CHK-6, CHK-15, LAN-12: three windows keep looking at the checkout that the storm takes the place of."""
    dev, stripe = shop
    before = stripe.sessions()
    (window,) = buyers(dev, "bob", 1)
    earlier = window.ask("POST", "/v1/checkouts", {**order(home(dev)), "client_reference_id": "earlier"})
    assert earlier.status == 201
    slow = {"kind": "delay_after", "path": "/expire$", "seconds": SLOW_EXPIRE_SECONDS, "times": None}
    stripe.control("POST", "/_sandbox/faults", slow)
    stripe.forget_calls()
    bought: list[int] = []

    def act(number: int, client: Client) -> list[Answer]:
        if number < BUYERS:
            try:
                return buy(number, client, shop=home(dev), plans=("standard", "commit"))
            finally:
                bought.append(number)
        looks = [client.ask("GET", f"/v1/checkouts/{earlier.body['id']}")]
        while len(bought) < BUYERS:
            looks.append(client.ask("GET", f"/v1/checkouts/{earlier.body['id']}"))
        return looks

    visits = at_once(buyers(dev, "bob", BUYERS + 3), act)

    expired = {
        call["path"].split("/")[-2]: call["at"] - SLOW_EXPIRE_SECONDS
        for call in stripe.calls()
        if call["path"].endswith("/expire") and call["status"] == 200
    }
    assert earlier.body["session_id"] in expired
    for answer in (answer for visit in visits for answer in visit if answer.url):
        ended_at = expired.get(answer.body["session_id"], float("inf"))
        assert answer.sent_at < ended_at, "it was asked for after the expire, and yet given"
        assert answer.came_at < ended_at + SLOW_EXPIRE_SECONDS, "it was on its way for longer than anything is"

    (live,) = [one for id_, one in stripe.sessions().items() if id_ not in before and one["status"] == "open"]
    ids = [earlier.body["id"], *(visit[0].body.get("id") or visit[0].body["checkout_id"] for visit in visits[:BUYERS])]
    at_rest = [window.ask("GET", f"/v1/checkouts/{id_}") for id_ in ids]
    window.close()
    assert {answer.url for answer in at_rest} == {live["url"], None}
    # "expired" where Stripe's own word for it came before our next step.
    assert {answer.body["status"] for answer in at_rest} <= {"open", "superseded", "expired"}
    problems = [visit[0].body["code"] for visit in visits if visit[0].status not in (200, 201, 202)]
    assert set(problems) <= {"superseded"}


def test_usual_way_sells_one_buyer_the_same_thing_more_than_once(tmp_path: Path) -> None:
    """What the README compares with: were this to pass by chance, the comparison would be worth nothing."""
    with usual_shop(tmp_path) as (address, stripe):
        stripe.slow_down(0.008)
        clients = [Client(address) for _ in range(BUYERS)]
        visits = at_once(clients, partial(buy_as_usual, user_id="ann"))

        assert {visit[0].status for visit in visits} == {201}
        live = [one for one in stripe.sessions().values() if one["status"] == "open"]
        assert len(live) > 1
        assert len({one["customer"] for one in live}) > 1


def home(dev: Dev) -> str:
    return f"http://127.0.0.1:{dev.port}"
