"""The web as `onelane web` serves it, which can be told to die with a delivery in hand: `python -m tests.kills.web`.

The process that answers is what dies. Granian's own starts another one in its place, and ends when that one dies within
5.5 s, too: then it is for who runs the web to start it again.
"""

import os
from collections.abc import Callable
from typing import Any

from app.server import serve
from billing.run_with_parent import run_with_parent
from billing.settings import load_settings

THREADS = 160  # as many as `onelane web` has


def load() -> Callable[..., Any]:
    """The application, armed."""
    run_with_parent(os.getppid())
    from app.wsgi import application
    from tests.kills.event_steps import arm_receiving

    arm_receiving()
    loaded: Callable[..., Any] = application
    return loaded


if __name__ == "__main__":
    serve(load_settings(stripe_api_key=None), workers=1, threads=THREADS, load=load)
