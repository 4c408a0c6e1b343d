"""The web as `onelane web` serves it, which can be told to die with a delivery in hand: `python -m tests.kills.web`.

The process that answers is what dies. Granian's own starts another one in its place, and ends when that one dies within
5.5 s, too: then it is for who runs the web to start it again.
"""

from app.serving.asgi import Web
from app.serving.server import load_web, serve
from billing.process.settings import load_settings

THREADS = 160  # as many as `onelane web` has


def load(threads: int) -> Web:
    """The application, armed."""
    from tests.kills.event_steps import arm_receiving

    arm_receiving()
    return load_web(threads)


if __name__ == "__main__":
    serve(load_settings(stripe_api_key=None), workers=1, threads=THREADS, load=load)
