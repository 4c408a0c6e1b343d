"""What anybody may ask for: it is counted, costs the same however often it is asked for, and shows no figures."""

import threading
from typing import Any

import pytest

from app.openapi import page
from billing.webhooks.endpoint import PATH
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import Request, asgi
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, Web, token

TOKEN = "a-token-for-the-figures-0"
OPEN = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/static/base.css", "/v1/plans", "/nowhere")
LONG = "x" * (64 * 1024 + 1)


class Counting:
    """A queue whose broker is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def trouble(self) -> None:
        self.asked += 1


def test_readiness_is_looked_at_once_a_second(make_app: MakeApp) -> None:
    """API-92; faults row 124"""
    queue = Counting()
    web = Web(make_app(services={"queue": queue}))
    started = threading.Barrier(4)

    def ask(times: int) -> None:
        started.wait()
        for _ in range(times):
            assert Web(web.app).get("/readyz", user=None).status_code == 200

    threads = [threading.Thread(target=ask, args=(5,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.asked < 20 / 2, "as often as seconds went by, however slow this machine is"


def test_documents_are_written_once(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-92; faults row 124"""
    written: list[str] = []
    document = page.document

    def noted(**given: str) -> dict[str, Any]:
        written.append("document")
        return document(**given)

    def rendered(*_: object, **__: object) -> str:
        written.append("page")
        return "page"

    monkeypatch.setattr(page, "document", noted)
    monkeypatch.setattr(page, "render_template", rendered)
    web = Web(make_app())
    for _ in range(5):
        assert web.client.get("/docs").status_code == web.client.get("/openapi.json").status_code == 200
    assert sorted(written) == ["document", "document", "page"]


def test_open_routes_ask_no_redis(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-92: whoever is counted at them is counted in this process."""
    web = Web(make_app(limits="redis://127.0.0.1:1/0", rate_limit_addresses="3/minute"))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("asked Redis")

    monkeypatch.setattr("limits.strategies.MovingWindowRateLimiter.hit", fail)
    for path in ("/docs", "/openapi.json", "/healthz"):
        assert web.client.get(path).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_every_open_route_is_counted_and_apart_from_buyers(make_app: MakeApp, path: str) -> None:
    """API-94, API-39; faults row 124"""
    web = Web(make_app(rate_limit_addresses="3/minute"))
    for _ in range(3):
        assert web.get("/v1/subscription").status_code == 200
    assert web.get("/v1/subscription").status_code == 429
    assert [web.client.get(path, buffered=True).status_code == 429 for _ in range(4)] == [False, False, False, True]


def test_deliveries_are_not_counted(make_app: MakeApp, world: World) -> None:
    """API-32, API-94"""
    web = Web(make_app(rate_limit_addresses="1/minute"))
    for _ in range(3):
        body, signature = deliver(build_event(), at=world.clock.now())
        answer = web.call("POST", PATH, user=None, data=body, headers={"Stripe-Signature": signature})
        assert answer.status_code == 200


@pytest.mark.parametrize("limit", ["rate_limit_addresses", "rate_limit_checkouts"])
@pytest.mark.parametrize("kind", ["too long", "cut off"])
def test_refused_body_counts_too(make_app: MakeApp, limit: str, kind: str) -> None:
    """API-94, API-30; faults row 124: for the address and for the user."""
    web = asgi(make_app(**{limit: "2/minute"}))
    length, status = (str(len(LONG)), 413) if kind == "too long" else ("10", 400)
    headers = [("Authorization", f"Bearer {token()}"), ("Content-Type", "application/json"), ("Content-Length", length)]
    asked = [
        Request("POST", "/v1/checkouts", headers=headers, pieces=[b"{"], unfinished=True).run(web).status
        for _ in range(4)
    ]
    assert asked == [status] * 2 + [429] * 2


@pytest.mark.parametrize("query", ["user_id=%ff", "user_id=%c3%28", "x=%ed%a0%80", "%fe", "user_id=a&y=%80"])
@pytest.mark.parametrize(
    "path", ["/v1/subscription", "/v1/checkouts/chk_1", "/v1/plans", "/readyz", "/docs", "/nowhere"]
)
def test_query_that_is_not_utf8_is_refused(web: Web, path: str, query: str) -> None:
    """API-93; faults row 124"""
    answer = web.get(f"{path}?{query}", bearer=API_KEYS[0])
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (400, "bad_request")


def test_query_in_utf8_is_read(web: Web) -> None:
    """API-93"""
    assert web.get("/v1/subscription?user_id=%E5%90%8D%E5%89%8D", bearer=API_KEYS[0]).status_code == 200


@pytest.mark.parametrize("header", [None, "", f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"])
def test_figures_are_for_who_has_the_token(make_app: MakeApp, header: str | None) -> None:
    """API-95; faults row 124"""
    web = Web(make_app(metrics_token=TOKEN))
    sent = {} if header is None else {"Authorization": header}
    assert web.call("GET", "/metrics", user=None, headers=sent).status_code == 401
    assert web.call("GET", "/metrics", user=None, bearer=TOKEN).status_code == 200
