"""Rates of users: counted by the user, before the body; a refusal just given is given again without a thread."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from app.errors.problems import RateLimited
from app.limits import users
from app.limits.users import Refusals
from app.serving.asgi import REFUSED_AGAIN
from billing.models import checkouts
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import Request, asgi
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, BODY, ORIGIN, Web, token


def test_user_who_asks_too_often_waits_and_nobody_else_does(make_app: MakeApp) -> None:
    """API-8, API-30"""
    web = Web(make_app(rate_limit_checkouts="2/minute"))
    assert [web.checkout().status_code for _ in range(3)] == [202, 202, 429]

    answer = web.checkout()
    assert answer.get_json(force=True)["code"] == "rate_limited"
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= 60
    assert answer.headers["RateLimit-Policy"] == '"checkouts";q=2;w=60'
    assert answer.headers["RateLimit"] == f'"checkouts";r=0;t={seconds}'
    assert web.checkout(user="user_2").status_code == 202
    assert web.get("/v1/subscription").status_code == 200


def test_buyer_is_counted_before_the_body_is_read(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_checkouts="1/minute"))
    assert web.checkout(plan="no such plan").status_code == 422

    unread = {"wsgi.input": Unreadable()}
    answer = web.call("POST", "/v1/checkouts", environ_overrides=unread, content_type="application/json")

    assert answer.status_code == 429


class Unreadable:
    """A body that nobody may look at."""

    def read(self, size: int = -1) -> bytes:
        pytest.fail("the body was read")


def test_user_is_counted_however_the_header_is_written(make_app: MakeApp) -> None:
    """API-30"""
    web, ann = Web(make_app(rate_limit_checkouts="3/minute")), token("ann")
    headers = [f"Bearer {ann}", f"bearer {ann}", f"Bearer   {ann}", f"Bearer {token('ann', email='ann@example.com')}"]

    codes = [web.checkout(headers={"Authorization": header}).status_code for header in headers]

    assert codes == [202, 202, 202, 429]


def test_buyer_who_was_just_refused_is_refused_again_without_a_thread(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-75"""
    app = make_app(rate_limit_checkouts="1/minute")
    flask, called = app.wsgi_app, list[str]()
    monkeypatch.setattr(
        app, "wsgi_app", lambda environ, start: (called.append(environ["PATH_INFO"]), flask(environ, start))[1]
    )
    web, ann = asgi(app, origins=[ORIGIN]), token("ann")

    def ask(credential: str, method: str = "POST", path: str = "/v1/checkouts", **fields: str) -> Request:
        called.clear()
        headers = {
            "Authorization": f"Bearer {credential}",
            "Transfer-Encoding": "chunked",
            "Content-Type": "application/json",
            "Origin": ORIGIN,
        }
        return Request(method, path, headers=headers.items(), pieces=[json.dumps(BODY | fields).encode()]).run(web)

    assert [ask(ann).status, ask(ann).status, called] == [202, 429, ["/v1/checkouts"]]

    before = REFUSED_AGAIN.collect()[0].samples[0].value
    with capture_logs() as logs:
        again = ask(ann)

    assert (again.status, called, again.asked) == (429, [], 0)
    assert (logs, REFUSED_AGAIN.collect()[0].samples[0].value) == ([], before + 1)
    assert json.loads(again.body)["code"] == "rate_limited"
    assert 0 < int(again.headers["retry-after"]) <= 60
    assert again.headers["ratelimit-policy"] == '"checkouts";q=1;w=60'
    assert again.headers["access-control-allow-origin"] == ORIGIN
    assert "RateLimit" in again.headers["access-control-expose-headers"]
    assert ask(ann, "GET", "/v1/subscription").status == 200
    assert ask(token("bob")).status == 202
    assert [ask(API_KEYS[0], user_id=user).status for user in ("eve", "eve", "joe")] == [202, 429, 202]
    monkeypatch.setattr("app.limits.users.REFUSED_SECONDS", 0)
    ask(f" {ann}")
    assert (ask(f" {ann}").status, called) == (429, ["/v1/checkouts"]), "what is longer ago is found out again"


def test_request_whose_like_is_refused_while_it_waits_for_a_thread_is_refused(make_app: MakeApp) -> None:
    """API-75"""
    app = make_app()
    web = asgi(app)

    async def pieces() -> AsyncIterator[bytes]:
        with app.test_request_context("/v1/checkouts", method="POST", headers={"Authorization": "Bearer a"}) as context:
            app.extensions[users.EXTENSION].note(context.request, RateLimited(7, {}))
        yield b"{}"

    headers = {"Authorization": "Bearer a", "Transfer-Encoding": "chunked"}
    answer = Request("POST", "/v1/checkouts", headers=headers.items(), pieces=pieces()).run(web)

    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


def test_refusals_are_remembered_in_bounded_number(make_app: MakeApp) -> None:
    """API-75"""
    app, refusals = make_app(), Refusals()
    for number in range(3 * users.MOST_REFUSALS):
        with app.test_request_context(f"/v1/checkouts/{number}") as context:
            refusals.note(context.request, RateLimited(7, {}))
    assert len(refusals._refused) <= users.MOST_REFUSALS


def test_long_path_is_refused_each_time_and_not_remembered(make_app: MakeApp) -> None:
    """API-30, API-75: a path may be 60 KB long, and each time another one; a thousand of them would stay."""
    app = make_app(rate_limit_reads="1/minute")
    web, refused = Web(app), app.extensions[users.EXTENSION]
    statuses = [web.get(f"/v1/checkouts/{letter * 60_000}").status_code for letter in "abc"]
    assert statuses == [400, 429, 429]
    assert refused._refused == {}
    assert web.get("/v1/checkouts/chk_1").status_code == 429
    assert len(refused._refused) == 1


def test_storm_of_one_user_is_cut_off_at_the_rate_and_everybody_else_is_served(make_app: MakeApp, world: World) -> None:
    """API-30, API-38; faults row 3"""
    app = make_app(rate_limit_checkouts="30/minute")
    ann, delivery = token("ann"), deliver(build_event(), at=world.clock.now())

    with ThreadPoolExecutor(20) as threads:
        storm = [threads.submit(lambda: Web(app).checkout(bearer=ann).status_code) for _ in range(60)]
        other = threads.submit(Web(app).checkout, user="bob")
        health = threads.submit(Web(app).get, "/healthz", user=None)
        stripe = threads.submit(
            Web(app).call, "POST", "/webhooks/stripe", data=delivery[0], headers={"Stripe-Signature": delivery[1]}
        )

    assert Counter(answer.result() for answer in storm) == {202: 30, 429: 30}
    assert [answer.result().status_code for answer in (other, health, stripe)] == [202, 200, 200]


def test_server_key_is_limited_by_the_user_it_names(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_checkouts="1/minute"))

    codes = [web.checkout(bearer=API_KEYS[0], user_id=user).status_code for user in ("a", "b", "a")]

    assert codes == [202, 202, 429]


def test_reads_have_a_limit_of_their_own(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_reads="2/minute"))
    location = web.checkout().headers["Location"]

    assert [web.get(path).status_code for path in (location, "/v1/subscription", location)] == [200, 200, 429]
    assert web.checkout().status_code == 202


def test_checkout_that_differs_from_the_one_before_is_counted_besides(make_app: MakeApp, world: World) -> None:
    """API-110: a first one and the same again are none; what is refused leaves nothing behind."""
    web = Web(make_app(rate_limit_different_checkouts="2/hour"))
    plans = ["standard", "standard", "commit", "commit", "standard", "standard"]
    assert [web.checkout(plan=plan).status_code for plan in plans] == [202] * 6

    answer = web.checkout(plan="commit")
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (429, "rate_limited")
    assert answer.headers["RateLimit-Policy"] == '"different_checkouts";q=2;w=3600'
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert [row.plan for row in world.rows(checkouts)].count("commit") == 2

    assert web.checkout(plan="standard").status_code == 202, "what was asked before is still served, also at once"
    assert web.checkout(plan="standard", client_reference_id="other").status_code == 429
    assert web.checkout(plan="commit", user="user_2").status_code == 202


def test_repeated_key_is_no_different_checkout(make_app: MakeApp) -> None:
    """API-110, CHK-10: an earlier answer is asked for."""
    web = Web(make_app(rate_limit_different_checkouts="1/hour"))
    first = web.checkout(headers={"Idempotency-Key": "one"}).get_json()["id"]
    assert web.checkout(plan="commit").status_code == 202

    assert web.checkout(headers={"Idempotency-Key": "one"}).get_json()["id"] == first
    assert web.checkout().status_code == 429


def test_different_checkouts_at_once_are_counted_each(make_app: MakeApp, world: World) -> None:
    """API-110: two plans in turn, by many threads: as many changes are recorded as were counted."""
    web = Web(make_app(rate_limit_different_checkouts="4/hour"))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: web.checkout(plan=["standard", "commit"][n % 2]).status_code, range(40)))

    assert set(answers) == {202, 429}
    plans = [row.plan for row in sorted(world.rows(checkouts), key=lambda row: row.number)]
    assert sum(before != after for before, after in pairwise(plans)) <= 4
