"""Rates of client addresses: whose address it is, and who is not counted."""

import pytest
from flask import request

from app.limits.addresses import counted_as
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import Request, asgi
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, Web


def test_address_that_asks_too_often_waits_whichever_tokens_it_shows(make_app: MakeApp) -> None:
    """API-8, API-39"""
    web = Web(make_app(rate_limit_addresses="3/minute"))
    assert web.get("/v1/subscription", user="ann").status_code == 200
    assert web.checkout(user="bob").status_code == 202
    assert web.get("/v1/subscription", bearer="a-guess").status_code == 401

    answer = web.get("/v1/subscription", user="eve")

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (429, "rate_limited")
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= 60
    assert answer.headers["RateLimit-Policy"] == '"addresses";q=3;w=60'
    assert answer.headers["RateLimit"] == f'"addresses";r=0;t={seconds}'
    assert web.get("/v1/subscription", bearer="a-guess").status_code == 429, "guessing is slowed down, too"
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert web.get("/v1/subscription", user="eve", environ_base=elsewhere).status_code == 200
    assert web.get("/v1/subscription?user_id=ann", bearer=API_KEYS[0]).status_code == 200
    assert web.get("/v1/plans", user=None).status_code == 200


def test_address_is_the_one_that_the_believed_proxies_saw(make_app: MakeApp) -> None:
    """API-39; faults row 68: what a client writes into X-Forwarded-For gives it no further allowance, however much."""
    for proxies in (0, 1, 2):
        web = Web(make_app(trusted_proxies=proxies, rate_limit_addresses="1/minute"))
        seen = ["198.51.100.7", "10.0.0.1"][2 - proxies :] if proxies else []
        codes = [
            web.get(
                "/v1/subscription", headers={"X-Forwarded-For": ", ".join([*[f"203.0.113.{n}"] * 3000, *seen])}
            ).status_code
            for n in (1, 2)
        ]
        assert codes == [200, 429], f"{proxies} proxies"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("192.0.2.7:61234", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        ('"[2001:db8:1:2::9]"', "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("64:ff9b::c000:208", "192.0.2.8"),
        (" 192.0.2.7", "192.0.2.7"),
        # No one name for all whom nobody knows.
        ("", ""),
        ("unknown", ""),
        ("_hidden", ""),
        ("[::1", ""),
        ("1.2.3.4.5", ""),
        ("x" * 5000, ""),
    ],
)
def test_address_is_counted_by_whom_it_belongs_to(address: str, name: str) -> None:
    """API-39"""
    assert counted_as(address) == name


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"X-Forwarded-For": "192.0.2.7:{0}"}, [200, 429, 429]),  # one client, from several ports
        ({"X-Forwarded-For": "[2001:db8::{0}]:443"}, [200, 429, 429]),
        ({"X-Forwarded-For": "64:ff9b::192.0.2.{0}"}, [200, 200, 200]),  # several clients behind one NAT64
        ({"X-Forwarded-For": "198.51.100.{0}:80"}, [200, 200, 200]),
        ({"X-Forwarded-For": "unknown"}, [200, 200, 200]),
        ({}, [200, 200, 200]),
    ],
)
def test_address_as_proxies_write_it_is_understood_or_ignored(
    make_app: MakeApp, headers: dict[str, str], statuses: list[int]
) -> None:
    """API-39, API-101, faults row 104: never one allowance for all."""
    web = Web(make_app(rate_limit_addresses="1/minute", trusted_proxies=1))
    sent = ({name: value.format(number) for name, value in headers.items()} for number in (1, 2, 3))
    assert [web.get("/v1/subscription", headers=one).status_code for one in sent] == statuses


def test_header_with_underscores_is_not_taken_for_the_one_with_hyphens(make_app: MakeApp) -> None:
    """API-39, faults row 104: proxies hand it through, and WSGI writes both alike."""
    app = make_app(trusted_proxies=1)
    addresses: list[str | None] = []
    app.before_request(lambda: addresses.append(request.remote_addr))
    fields = [("x_forwarded_for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")]
    for headers in (fields, fields[::-1]):
        Request("GET", "/healthz", headers=headers, client=("10.0.0.1", "1")).run(asgi(app))
    assert addresses == ["192.0.2.7"] * 2


def test_deliveries_have_no_limit(make_app: MakeApp, world: World) -> None:
    """API-32"""
    web = Web(make_app(rate_limit_checkouts="1/day", rate_limit_reads="1/day", rate_limit_addresses="1/day"))

    for _ in range(10):
        body, signature = deliver(build_event(), at=world.clock.now())
        answer = web.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature})
        assert answer.status_code == 200
