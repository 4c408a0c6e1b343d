"""Crowds: however many requests one caller has in hand, the others find threads, seats and work to be done."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from io import BytesIO
from typing import IO, Any

import pytest
from flask import Flask, request
from werkzeug.test import TestResponse

from app.auth import Identity
from app.bodies import read_bytes
from app.crowds import turn_crowds_away
from app.limits import Seats, Share, Turns, aside
from billing.clock import SystemClock
from billing.wakeups import LocalWakeups
from tests.app.conftest import MakeApp, build_settings
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, BODY, ORIGIN, Web, token

MOST = 3
SECONDS = 10


class Door:
    """An application whose requests stay in hand until they are let go."""

    def __init__(self, at_work: int) -> None:
        self.app = Flask(__name__)
        self.inside = threading.Semaphore(0)
        self.let_go = threading.Event()
        settings = build_settings()
        self.app.before_request(self.inside.release)
        self.app.post("/stay")(self._stay)
        self.app.post("/stay-aside")(self._stay_aside)
        self.app.post("/read", endpoint="read")(lambda: read_bytes(request, 100))
        self.app.post("/pass", endpoint="pass")(lambda: "passed")
        turn_crowds_away(
            self.app,
            identity=Identity(settings),
            shares=Share(MOST),
            turns=Turns(at_work),
            origins=settings.redirect_origins,
        )

    def _stay(self) -> str:
        assert self.let_go.wait(SECONDS)
        return str(request.content_length)

    def _stay_aside(self) -> str:
        with aside(request.environ):
            return self._stay()

    def ask(self, path: str, credential: str, body: IO[bytes] | None = None, **headers: str) -> TestResponse:
        return self.app.test_client().post(
            path, input_stream=body, headers={"Authorization": f"Bearer {credential}", **headers}
        )


class SlowBody(BytesIO):
    """A body that is on its way until it is let go."""

    def __init__(self, let_go: threading.Event) -> None:
        super().__init__(b"all of it")
        self._let_go = let_go

    def readinto(self, buffer: Any, /) -> int:
        assert self._let_go.wait(SECONDS)
        return super().readinto(buffer)


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    made = Door(getattr(request, "param", MOST))
    yield made
    made.let_go.set()


def test_caller_with_their_share_in_hand_is_turned_away_and_nobody_else_is(door: Door) -> None:
    """API-38; faults row 3"""
    ann, bob = token("ann"), token("bob")
    with ThreadPoolExecutor(MOST) as windows:
        in_hand = [windows.submit(door.ask, "/stay", ann) for _ in range(MOST)]
        for _ in in_hand:
            assert door.inside.acquire(timeout=SECONDS)
        refused = door.ask("/pass", ann, Origin=ORIGIN)
        other = door.ask("/pass", bob)
        door.let_go.set()
        assert [one.result(SECONDS).status_code for one in in_hand] == [200] * MOST

    assert (refused.status_code, other.status_code) == (429, 200)
    problem: dict[str, Any] = refused.get_json(force=True)
    assert (problem["code"], problem["status"], problem["retryable"]) == ("rate_limited", 429, True)
    assert problem["request_id"] == refused.headers["Request-Id"]
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert door.ask("/pass", ann).status_code == 200, "who has nothing in hand any more is served"


def test_server_key_speaks_for_many_and_is_not_turned_away(door: Door) -> None:
    """API-38: whose requests they are is in their bodies."""
    with ThreadPoolExecutor(MOST) as windows:
        in_hand = [windows.submit(door.ask, "/stay", API_KEYS[0]) for _ in range(MOST)]
        for _ in in_hand:
            assert door.inside.acquire(timeout=SECONDS)
        answer = door.ask("/pass", API_KEYS[0])
        door.let_go.set()
    assert answer.status_code == 200


@pytest.mark.parametrize("door", [1], indirect=True)
def test_requests_of_one_caller_are_worked_on_one_after_the_other_from_their_first_step(door: Door) -> None:
    """API-38: what comes before the route, the login for one, is work as well."""
    ann = token("ann")
    with ThreadPoolExecutor(MOST) as windows:
        first = windows.submit(door.ask, "/stay", ann)
        assert door.inside.acquire(timeout=SECONDS)
        second = windows.submit(door.ask, "/pass", ann)
        assert door.ask("/pass", token("bob")).status_code == 200, "another's is worked on meanwhile"
        assert door.inside.acquire(timeout=SECONDS)
        assert not door.inside.acquire(timeout=0.05)
        assert not second.done()
        door.let_go.set()
        assert [one.result(SECONDS).status_code for one in (first, second)] == [200, 200]


@pytest.mark.parametrize("door", [1], indirect=True)
@pytest.mark.parametrize("path", ["/stay-aside", "/read"])
def test_request_that_waits_for_a_worker_or_for_its_body_lets_the_next_one_in(door: Door, path: str) -> None:
    """API-38: a window whose connection hangs does not keep the buyer's next window out."""
    ann = token("ann")
    with ThreadPoolExecutor(MOST) as windows:
        first = windows.submit(door.ask, path, ann, SlowBody(door.let_go), **{"Content-Length": "9"})
        assert door.inside.acquire(timeout=SECONDS)
        assert door.ask("/pass", ann).status_code == 200
        assert not first.done()
        door.let_go.set()
        assert first.result(SECONDS).status_code == 200


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/subscription/cancel"])
def test_buyer_with_a_window_that_waits_is_served_in_the_next_one(make_app: MakeApp, world: World, path: str) -> None:
    """API-38"""
    world.sandbox.pay(str(world.served().session_id))
    ann, served = token(), list[int]()

    class OtherWindow(LocalWakeups):
        """While somebody waits for the bell, the same buyer asks for something else."""

        def wait(self, id_: str, seconds: float) -> None:
            with ThreadPoolExecutor(1) as window:
                served.append(window.submit(Web(app).get, "/v1/subscription", bearer=ann).result(SECONDS).status_code)

    app = make_app(services={"wakeups": OtherWindow(), "clock": SystemClock()})
    body = {"json": BODY} if path == "/v1/checkouts" else {}
    Web(app).call("POST", path, bearer=ann, headers={"Prefer": "wait=1"}, **body)
    assert set(served) == {200}


def test_who_stepped_aside_has_their_turn_again_after_it() -> None:
    """API-38"""
    turns, back = Turns(1), threading.Event()
    order: list[str] = []

    def second() -> None:
        with turns.take("ann"):
            order.append("second begins")
            back.set()
            order.append("second ends")

    with ThreadPoolExecutor(1) as threads, turns.take("ann") as turn:
        with turn.aside():
            threads.submit(second)
            assert back.wait(SECONDS)
        order.append("first goes on")
        third = threads.submit(second)
        assert not wait([third], timeout=0.05).done
    assert order == ["second begins", "second ends", "first goes on", "second begins", "second ends"]


def test_two_of_a_callers_requests_are_worked_on_at_once_while_others_go_on() -> None:
    """API-38"""
    turns, let_go = Turns(2), threading.Event()
    begun: list[str] = []
    inside = threading.Semaphore(0)

    def work(who: str) -> None:
        with turns.take(who):
            begun.append(who)
            inside.release()
            assert let_go.wait(SECONDS)

    with ThreadPoolExecutor(8) as threads:
        for who in ("ann", "ann", "ann", "ann", "bob"):
            threads.submit(work, who)
        for _ in range(3):
            assert inside.acquire(timeout=SECONDS)
        assert not inside.acquire(timeout=0.05)
        assert sorted(begun) == ["ann", "ann", "bob"]
        let_go.set()
    assert sorted(begun) == ["ann"] * 4 + ["bob"]
    assert turns._lines == {}, "who is done is forgotten"


def test_one_caller_has_their_share_of_the_seats_only() -> None:
    """API-22"""
    seats = Seats(3, of_one=2)
    with ExitStack() as held:
        assert [held.enter_context(seats.take(who)) for who in ("ann", "ann", "ann", "bob", "bob")] == [
            True,
            True,
            False,
            True,
            False,
        ]
    with seats.take("ann") as seated:
        assert seated
