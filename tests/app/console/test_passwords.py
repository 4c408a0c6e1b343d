"""Passwords that are tried at the same moment: none is a way around the waits, and none holds a thread."""

import contextlib
import threading

import pytest

from app.console import passwords
from app.console.passwords import AT_ONCE, FREE_TRIES, Passwords, derive_key
from app.errors.problems import RateLimited
from app.limits.rates import RateLimit
from billing.errors import Busy
from tests.support.builders import NOON, MovableClock

PASSWORD = "a-password-of-the-operators"


def a_door() -> Passwords:
    rate = RateLimit("logins", "100000/minute", storage=None)
    return Passwords([derive_key(PASSWORD)], rate=rate, clock=MovableClock(NOON))


def test_key_of_a_password_is_the_same_in_every_process_and_no_other_ones() -> None:
    """CON-6"""
    assert derive_key(PASSWORD) == derive_key(PASSWORD)
    assert derive_key(PASSWORD) != derive_key(PASSWORD + "x")
    assert len(derive_key(PASSWORD)) == 32


def test_fifty_guesses_at_the_same_moment_are_no_more_looks_than_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CON-5; faults row 72"""
    door, looked, started = a_door(), list[str](), threading.Barrier(50)
    monkeypatch.setattr(passwords, "derive_key", lambda given: looked.append(given) or b"")

    def guess() -> None:
        started.wait()
        with contextlib.suppress(RateLimited, Busy):
            door.check("a guess", "198.51.100.7")

    threads = [threading.Thread(target=guess) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(looked) <= FREE_TRIES


def test_who_comes_while_others_are_looked_at_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """CON-5: no thread waits, however many addresses try."""
    door, inside, let_go = a_door(), threading.Semaphore(0), threading.Event()

    def slow(_given: str) -> bytes:
        inside.release()
        let_go.wait(30)
        return b""

    monkeypatch.setattr(passwords, "derive_key", slow)
    threads = [threading.Thread(target=door.check, args=("x", f"192.0.2.{number}")) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
        assert inside.acquire(timeout=30)
    with pytest.raises(Busy):
        door.check(PASSWORD, "192.0.2.99")
    let_go.set()
    for thread in threads:
        thread.join()
