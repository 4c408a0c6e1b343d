"""Cancel, reactivate, switch, undo and the portal over HTTP, by buyers and by servers."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from billing.clock import SystemClock
from billing.coordination.queue import InlineQueue
from billing.coordination.wakeups import LocalWakeups
from billing.operations.calls import Kind
from tests.app.conftest import AtOnce, MakeApp
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, ORIGIN, Web

CANCEL, REACTIVATE = "/v1/subscription/cancel", "/v1/subscription/reactivate"
SWITCH, PORTAL = "/v1/subscription/switch", "/v1/portal-sessions"
RETURN = {"return_url": f"{ORIGIN}/account"}
CALLS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", CANCEL, None),
    ("POST", REACTIVATE, {}),
    ("POST", SWITCH, {"plan": "commit"}),
    ("DELETE", SWITCH, None),
    ("POST", PORTAL, RETURN),
]


def subscribe(world: World, user: str = "user_1") -> None:
    """The user bought the standard plan."""
    world.sandbox.pay(str(world.served(user=user).session_id))


def call(web: Web, method: str, path: str, body: dict[str, Any] | None = None, **more: Any) -> TestResponse:
    return web.call(method, path, **({"json": body} if body is not None else {}), **more)


def code(answer: TestResponse) -> str:
    return str(answer.get_json(force=True)["code"])


def test_buyer_cancels_and_takes_it_back(served: Web, world: World) -> None:
    """API-40: done within the wait, with the subscription as it is now."""
    subscribe(world)

    answer = call(served, "POST", CANCEL)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    body = answer.get_json()
    assert (body["kind"], body["status"], body["subscription"]["cancel_at_period_end"]) == ("cancel", "succeeded", True)
    assert body["access"]["until"] == body["subscription"]["current_period_end"]
    assert served.get("/v1/subscription").get_json()["subscription"]["cancel_at_period_end"] is True
    again = call(served, "POST", CANCEL)
    assert (again.status_code, code(again)) == (409, "already_canceling")
    back = call(served, "POST", REACTIVATE, {})
    assert back.get_json()["subscription"]["cancel_at_period_end"] is False


def test_buyer_switches_and_takes_it_back(served: Web, world: World) -> None:
    """API-40"""
    subscribe(world)

    answer = call(served, "POST", SWITCH, {"plan": "commit"})

    assert (answer.status_code, answer.get_json()["plan"]) == (200, "commit")
    assert served.get("/v1/subscription").get_json()["subscription"]["scheduled_plan"] == "commit"
    assert code(call(served, "POST", SWITCH, {"plan": "standard"})) == "already_on_plan"
    assert call(served, "DELETE", SWITCH).get_json()["subscription"]["scheduled_plan"] is None


def test_portals_address_is_in_this_answer_only(served: Web, world: World) -> None:
    """API-41: and in the operation, for its own user, for five minutes."""
    subscribe(world)

    answer = call(served, "POST", PORTAL, RETURN)

    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.get_json()
    assert "/portal/" in body["url"]
    operation = f"/v1/operations/{body['id']}"
    assert served.get(operation).get_json()["url"] == body["url"]
    assert code(served.get(operation, user="user_2")) == "not_found"
    world.clock.advance(minutes=6)
    assert served.get(operation).get_json()["url"] is None


def test_second_press_that_was_answered_meanwhile_is_read_at_once(make_app: MakeApp, world: World) -> None:
    """API-40, SUB-37: the wake-up may have been the first one's."""

    class Unneeded(LocalWakeups):
        def wait(self, id_: str, seconds: float) -> None:
            raise AssertionError(f"{id_} is answered")

    subscribe(world)
    first = world.change(Kind.CANCEL)
    web = Web(make_app(services={"queue": AtOnce(world), "wakeups": Unneeded()}, checkout_wait_seconds=20))

    answer = call(web, "POST", CANCEL)

    assert (answer.status_code, answer.get_json()["id"]) == (200, first.operation_id)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_what_takes_longer_is_read_at_its_location(
    web: Web, world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """API-40, API-42: 202, then the operation; every call by the same rule."""
    subscribe(world)

    answer = call(web, method, path, body)

    assert (answer.status_code, answer.get_json()["status"]) == (202, "pending")
    assert int(answer.headers["Retry-After"]) > 0
    location = answer.headers["Location"]
    assert location == f"/v1/operations/{answer.get_json()['id']}"
    world.work()
    assert web.get(location).get_json()["status"] == "succeeded"
    assert code(web.get(location, user="user_2")) == "not_found"


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_server_names_the_user_and_a_buyer_cannot(
    served: Web, world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """API-13, API-14"""
    subscribe(world)
    key = API_KEYS[0]

    named = {**(body or {}), "user_id": "user_1"}
    assert call(served, method, path, named, bearer=key).status_code == 200
    assert call(served, method, path, body, bearer=key).status_code == 422
    assert call(served, method, path, named, user="user_2").status_code == 422
    if method == "DELETE":
        assert call(served, method, f"{path}?user_id=user_1", bearer=key).status_code == 200
        assert call(served, method, f"{path}?user_id=user_1", user="user_2").status_code == 422


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_user_who_never_bought_has_nothing_to_change(
    served: Web, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """API-4, API-43"""
    answer = call(served, method, path, body)
    assert (answer.status_code, code(answer)) == (409, "no_subscription")


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_changes_need_a_login(web: Web, method: str, path: str, body: dict[str, Any] | None) -> None:
    """API-10"""
    assert call(web, method, path, body, user=None).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (CANCEL, {"when": "now"}, "/when"),
        (REACTIVATE, [], ""),
        (SWITCH, {}, "/plan"),
        (SWITCH, {"plan": "gold"}, "/plan"),
        (SWITCH, {"plan": "commit", "price": "price_1"}, "/price"),
        (PORTAL, {"return_url": "https://evil.example/"}, "/return_url"),
        (PORTAL, {"return_url": f"{ORIGIN}\\@evil.example"}, "/return_url"),
    ],
)
def test_bodies_that_make_no_sense_are_refused(served: Web, world: World, path: str, body: Any, pointer: str) -> None:
    """API-3, API-6"""
    subscribe(world)
    answer = call(served, "POST", path, body)
    assert (answer.status_code, answer.get_json(force=True)["errors"][0]["pointer"]) == (422, pointer)


def test_body_that_is_no_json_is_refused_where_it_may_be_missing(served: Web) -> None:
    """API-5"""
    assert served.call("POST", CANCEL, data=b"{", content_type="application/json").status_code == 400
    assert served.call("POST", CANCEL, data=b"a=b", content_type="text/plain").status_code == 415
    assert served.call("POST", CANCEL, data=b" " * 70_000, content_type="application/json").status_code == 413


def test_repeated_key_is_answered_with_the_operation_as_it_is_now(served: Web, world: World) -> None:
    """API-24, API-43"""
    subscribe(world)
    key = {"Idempotency-Key": "k1"}
    first = call(served, "POST", CANCEL, headers=key)
    again = call(served, "POST", CANCEL, headers=key)
    assert again.get_json()["id"] == first.get_json()["id"]
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = call(served, "POST", SWITCH, {"plan": "commit"}, headers=key)
    assert (other.status_code, code(other)) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("path", ["/v1/operations/op_1;--", "/v1/operations/chk_1", "/v1/operations/op_%2e"])
def test_id_that_is_not_written_like_one_is_refused(web: Web, path: str) -> None:
    """API-26"""
    assert code(web.get(path)) == "invalid_id"


def test_stripe_that_does_not_answer_is_a_503_with_the_location(make_app: MakeApp, world: World) -> None:
    """API-42: it stays, and is done later."""
    subscribe(world)
    world.sandbox.faults.add("status", status=503, times=None)
    web = Web(make_app(services={"queue": Once(world), "clock": SystemClock()}))

    answer = call(web, "POST", CANCEL, headers={"Prefer": "wait=1"})

    assert (answer.status_code, code(answer)) == (503, "stripe_unavailable")
    world.sandbox.faults.clear()
    world.clock.advance(minutes=11)
    world.work_operations()
    assert web.get(answer.headers["Location"]).get_json()["status"] == "succeeded"


def test_change_that_no_worker_can_be_told_of_is_a_503_with_the_location(make_app: MakeApp, world: World) -> None:
    """API-42"""
    subscribe(world)
    web = Web(make_app(services={"queue": Unheard()}))

    answer = call(web, "POST", CANCEL, headers={"Prefer": "wait=1"})

    assert (answer.status_code, code(answer)) == (503, "try_again")
    assert answer.headers["Location"].startswith("/v1/operations/op_")


def test_user_who_asks_too_often_is_told_to_wait(make_app: MakeApp, world: World) -> None:
    """API-30"""
    subscribe(world)
    web = Web(make_app(services={"queue": AtOnce(world)}, rate_limit_checkouts="2/minute"))
    statuses = [call(web, "POST", REACTIVATE).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


class Once(InlineQueue):
    """Works each job once, when it is sent; what is put off stays so."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def send(self, job: Any, *, delay_seconds: float = 0) -> bool:
        self._world.work_operations(job.row_id)
        return True


class Unheard(InlineQueue):
    """A broker that is away."""

    def send(self, job: Any, *, delay_seconds: float = 0) -> bool:
        return False

    def trouble(self) -> str:
        return "not reachable"
