"""POST and GET /v1/checkouts: how long a request waits, and what it is told when nobody can be told of it."""

import threading
import time

import pytest
from sqlalchemy import func, select

from app.answers import preferred_wait
from billing.coordination.jobs import Job
from billing.coordination.queue import InlineQueue
from billing.models import checkouts
from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import Web


def test_waiting_request_is_answered_as_soon_as_the_worker_is_done(make_app: MakeApp, world: World) -> None:
    """API-20, API-21"""
    web = Web(make_app(checkout_wait_seconds=20))
    worker = threading.Thread(target=_work_once_asked, args=(world,))
    worker.start()

    answer = web.checkout()

    worker.join()
    assert answer.status_code == 201


def test_preference_waits_for_a_pending_checkout_and_says_so(web: Web, world: World) -> None:
    """API-21"""
    location = web.checkout().headers["Location"]
    worker = threading.Thread(target=_work_once_asked, args=(world,))
    worker.start()

    answer = web.get(location, headers={"Prefer": "wait=20"})

    worker.join()
    assert answer.get_json()["status"] == "open"
    assert answer.headers["Preference-Applied"] == "wait=20"


def _work_once_asked(world: World) -> None:
    deadline = time.monotonic() + 10
    while not world.queue.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    world.work()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=7", 7),
        ("wait=999999999", 20),
        ("respond-async, wait=10", 10),
        ('Wait="5"; foo', 5),
        ("wait=0", 0),
        ("wait=-3", None),
        ("wait=1.5", None),
        ("wait=٣", None),
        ("wait=1e9", None),
        ("return=minimal", None),
        ("", None),
    ],
)
def test_preference_is_read_as_the_standard_has_it_and_ignored_otherwise(header: str, seconds: float | None) -> None:
    """API-21"""
    assert preferred_wait([header]) == seconds


def test_checkout_whose_worker_cannot_be_told_is_a_503_and_asks_redis_no_more(make_app: MakeApp) -> None:
    """API-28, API-29: a hung Redis takes its seconds once, when it is told; then only the row is looked at."""
    web = Web(make_app(services={"queue": Untold(), "wakeups": Untouchable()}))
    answer = web.checkout(headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "try_again")
    assert answer.headers["Location"] == f"/v1/checkouts/{answer.get_json()['checkout_id']}"
    assert answer.headers["Retry-After"]


def test_checkout_that_is_served_although_nobody_could_be_told_is_shown(make_app: MakeApp, world: World) -> None:
    """API-28: the row is read until the wait is over, with wake-ups or without."""
    web = Web(make_app(services={"queue": Untold(), "wakeups": Untouchable()}))
    worker = threading.Thread(target=_work_once_recorded, args=(world,))
    worker.start()
    answer = web.checkout(headers={"Prefer": "wait=20"})
    worker.join()
    assert answer.status_code == 201


class Untold(InlineQueue):
    """A broker that does not hear."""

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        return False

    def trouble(self) -> str | None:
        pytest.fail("asked once more")


class Untouchable:
    """Wake-ups whose Redis hangs at every call."""

    def wait(self, id_: str, seconds: float) -> None:
        pytest.fail("asked once more")

    available = wait


def _work_once_recorded(world: World) -> None:
    deadline = time.monotonic() + 10
    while not waiting(world) and time.monotonic() < deadline:
        time.sleep(0.01)
    world.work_lane()


def waiting(world: World) -> bool:
    """Whether a checkout is in the ledger."""
    with world.database.read() as connection:
        return bool(connection.scalar(select(func.count()).select_from(checkouts)))
