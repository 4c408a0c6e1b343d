"""Answers that come later: granian takes one from any thread, at any time, though WSGI has no way to say so.

To a WSGI server's every request belongs a thread that returns the answer. Granian's Rust side calls a function with the
request's protocol and its environment, and goes on when the protocol is given an answer; the function that it makes of
a WSGI application does so when the application returns. Ours leaves deliveries to the thread that commits them.
Measured in turns: 1.3 times as many deliveries a second, on both databases.

Which function granian calls is not documented. Where it is called otherwise one day, deliveries are answered as WSGI
has it, and tests/app/test_server.py fails.
"""

from collections.abc import Callable
from typing import Any

from granian.server import mp

from app.deliveries import EXTENSION, Deliveries

MAKES = "_wsgi_call_wrap"  # granian's own, which makes its function of an application


def answer_later(application: Any) -> None:
    """Have this process of granian's leave the application's deliveries to whoever commits them."""
    deliveries: Deliveries | None = getattr(application, "extensions", {}).get(EXTENSION)
    makes: Callable[..., Callable[[Any, dict[str, Any]], Any]] | None = getattr(mp, MAKES, None)
    if deliveries is None or makes is None:
        return

    def makes_ours(*arguments: Any) -> Callable[[Any, dict[str, Any]], None]:
        plain = makes(*arguments)

        def answer(protocol: Any, environ: dict[str, Any]) -> None:
            if not deliveries.take(environ, protocol.response_bytes, lambda: plain(protocol, environ)):
                plain(protocol, environ)

        return answer

    setattr(mp, MAKES, makes_ours)
