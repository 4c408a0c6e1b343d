"""Points at which a real process can be told to die, freeze or pause, once; for tests only.

A file `armed/<whose>` with "<step> <moment> <what>" in the folder KILLS_FOLDER is a command for the process that gets
there first with this user's or customer's work: `kill` and `stop` are SIGKILL and SIGSTOP, sent to itself; `pause`
waits for `released/<whose>`; `note` does nothing more. It leaves `tripped/<whose>.<its process id>`.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import sqlalchemy as sa

FOLDER = Path(os.environ.get("KILLS_FOLDER", "."))


class Now:
    """What this worker, of one thread, is doing."""

    user: str | None = None  # or the customer
    committing: str | None = None  # the step whose change is in the open transaction


def trip(step: str, moment: str, *whose: str | None) -> None:
    """Do what was ordered for these at this point, if anything was. The worker's own user where none is named."""
    for one in whose or (Now.user,):
        _trip(step, moment, one)


def _trip(step: str, moment: str, whose: str | None) -> None:
    armed = FOLDER / "armed" / f"{whose}"
    try:
        where, when, what = armed.read_text("utf-8").split()
        if (where, when) != (step, moment):
            return
        armed.rename(FOLDER / "tripped" / f"{whose}.{os.getpid()}")
    except (FileNotFoundError, ValueError):
        return
    if what == "note":
        return
    if what == "pause":
        while not (FOLDER / "released" / f"{whose}").exists():
            time.sleep(0.01)
    else:
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[what])
        time.sleep(0.5)  # another thread is told first: this one would run on for a moment


def around(where: Any, name: str, before: Callable[..., str | None], after: Callable[..., str | None]) -> None:
    """Trip before and after a function, at the steps that these name for its arguments."""
    inner = getattr(where, name)

    @wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        if step := before(*args):
            trip(step, "before")
        done = inner(*args, **kwargs)
        if step := after(*args):
            trip(step, "after")
        return done

    setattr(where, name, outer)


def never(*_: Any, **__: Any) -> None:
    return None


def always(step: str) -> Callable[..., str]:
    return lambda *_, **__: step


def committing(_connection: sa.Connection) -> None:
    """Everything is written, and COMMIT is not sent yet."""
    step, Now.committing = Now.committing, None
    if step:
        trip(step, "commit")
