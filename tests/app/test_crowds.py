"""Crowds: however many requests one caller has in hand, the others find threads, seats and work to be done."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.test import TestResponse

from app.auth import Identity
from app.crowds import turn_crowds_away
from app.limits import Seats, Share, Turns
from tests.app.conftest import build_settings
from tests.web import API_KEYS, ORIGIN, token

MOST = 3
SECONDS = 10


class Door:
    """An application whose requests stay in hand until they are let go."""

    def __init__(self) -> None:
        self.app = Flask(__name__)
        self.inside = threading.Semaphore(0)
        self.let_go = threading.Event()
        settings = build_settings()
        self.app.post("/stay")(self._stay)
        self.app.post("/pass")(lambda: "passed")
        turn_crowds_away(self.app, identity=Identity(settings), shares=Share(MOST), origins=settings.redirect_origins)

    def _stay(self) -> str:
        self.inside.release()
        assert self.let_go.wait(SECONDS)
        return str(request.content_length)

    def ask(self, path: str, credential: str, **headers: str) -> TestResponse:
        return self.app.test_client().post(path, headers={"Authorization": f"Bearer {credential}", **headers})


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
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
