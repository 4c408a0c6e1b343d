"""A semaphore for those who wait, with a share for each user."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from app.limits.waiters import Semaphore
from billing.clock import SystemClock
from billing.coordination.wakeups import LocalWakeups
from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import BODY, Web

SECONDS = 20  # how long anything is waited for


def test_semaphore_has_so_many_places_and_a_share_of_them_for_one_user() -> None:
    """API-22"""
    semaphore = Semaphore(3, share=2)
    with ExitStack() as held:
        users = ("ann", "ann", "ann", "bob", "bob", "eve")
        has_place = [held.enter_context(semaphore.place(user)) for user in users]
        assert has_place == [True, True, False, True, False, False]
    with semaphore.place("ann") as again:
        assert again


class Held(LocalWakeups):
    """Wake-ups that hold every waiter until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.let_go = threading.Semaphore(0), threading.Event()

    def wait(self, id_: str, seconds: float) -> None:
        self.waiting.release()
        assert self.let_go.wait(SECONDS)


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/subscription/cancel"])
def test_request_beyond_the_places_or_the_share_is_answered_without_a_wait(
    make_app: MakeApp, world: World, path: str
) -> None:
    """API-22"""
    for user in ("ann", "bob", "eve"):
        world.sandbox.pay(str(world.served(user=user).session_id))
    wakeups = Held()
    app = make_app(services={"wakeups": wakeups, "clock": SystemClock()}, waiters=Semaphore(2, share=1))

    def ask(user: str) -> tuple[int, str]:
        body: dict[str, Any] = {"json": BODY} if path == "/v1/checkouts" else {}
        answer = Web(app).call("POST", path, user=user, headers={"Prefer": "wait=1"}, **body)
        return answer.status_code, answer.headers.get("Location", "")

    with ThreadPoolExecutor(2) as threads:
        waiting = []
        for user in ("ann", "bob"):
            waiting.append(threads.submit(ask, user))
            assert wakeups.waiting.acquire(timeout=SECONDS)
            status, location = ask("ann")  # first beyond her share, then beyond all places
            assert (status, bool(location)) == (202, True)
        assert ask("eve")[0] == 202
        assert Web(app).get(location, user="ann", headers={"Prefer": "wait=1"}).get_json()["status"] == "pending"
        assert not any(answer.done() for answer in waiting)
        wakeups.let_go.set()


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/subscription/cancel"])
def test_buyer_with_a_window_that_waits_is_served_in_the_next_one(make_app: MakeApp, world: World, path: str) -> None:
    """API-22"""
    world.sandbox.pay(str(world.served().session_id))
    served = list[int]()

    class OtherWindow(LocalWakeups):
        """While one window waits, the same buyer asks for something else."""

        def wait(self, id_: str, seconds: float) -> None:
            with ThreadPoolExecutor(1) as window:
                served.append(window.submit(Web(app).get, "/v1/subscription").result(SECONDS).status_code)

    app = make_app(services={"wakeups": OtherWindow(), "clock": SystemClock()})
    body: dict[str, Any] = {"json": BODY} if path == "/v1/checkouts" else {}
    Web(app).call("POST", path, headers={"Prefer": "wait=1"}, **body)
    assert set(served) == {200}
