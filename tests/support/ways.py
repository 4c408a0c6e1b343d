"""The three ways that a delivery takes: through Flask, in front of it, and to a server that takes an answer later."""

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from app.deliveries import EXTENSION, Deliveries

Way = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def ways(app: Flask) -> dict[str, Way]:
    """Each as WSGI, to be the application's `wsgi_app`."""
    front = app.extensions[EXTENSION]
    assert app.wsgi_app is front
    return {"Flask": front.handle, "in front of Flask": front, "later": _later(front)}


def _later(front: Deliveries) -> Way:
    """As granian does it; nobody else commits here, so that the answer is there when `take` returns."""

    def called(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answers: list[Iterable[bytes]] = []

        def answer(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            start_response(f"{status} OK", headers)
            answers.append([body])

        if not front.take(environ, answer, lambda: answers.append(front(environ, start_response))):
            return front(environ, start_response)
        (only,) = answers
        return only

    return called
