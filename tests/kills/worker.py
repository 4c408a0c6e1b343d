"""Real Celery workers that can be told to die, freeze or pause at one step of the protocol, once; for tests only.

`python -m tests.kills.worker FOLDER COUNT` imports once and forks COUNT workers of one thread each, and another for
each that dies. A file `armed/<user>` with "<step> <moment> <what>" is a command for the worker that gets there first:
`kill` and `stop` are SIGKILL and SIGSTOP, sent to itself; `pause` waits for `released/<user>`. It leaves
`tripped/<user>.<its process id>`.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import worker.__main__
import worker.tasks
from billing.checkout import lane_ledger, steps, work
from billing.doorbell import RedisDoorbell
from billing.models import LaneState
from billing.stripe_gateway import LiveStripe

FOLDER = Path()
PR_SET_PDEATHSIG = 1
STEP_OF_MOVE = {LaneState.CREATING: "4", LaneState.OPEN: "6", LaneState.CLOSING: "9"}
Where = tuple[str, str] | None


class Now:
    """What this worker, of one thread, is doing."""

    user: str | None = None
    committing: str | None = None  # the step whose compare-and-set is in the open transaction


def trip(step: str, moment: str) -> None:
    """Do what was ordered for this user at this point, if anything was."""
    armed = FOLDER / "armed" / f"{Now.user}"
    try:
        where, when, what = armed.read_text("utf-8").split()
        if (where, when) != (step, moment):
            return
        armed.rename(FOLDER / "tripped" / f"{Now.user}.{os.getpid()}")
    except (FileNotFoundError, ValueError):
        return
    if what == "pause":
        while not (FOLDER / "released" / f"{Now.user}").exists():
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


def never(*_: Any) -> None:
    return None


def always(step: str) -> Callable[..., str]:
    return lambda *_: step


def arm_all() -> None:
    """Put a hook before and after every step."""
    inner_look = work._look

    def look(lane_id: int, at: steps.Hands) -> lane_ledger.Snapshot | None:
        Now.committing = None
        with at.database.read() as connection:
            lane = lane_ledger.read_lane(connection, lane_id)
        Now.user = lane.user_id if lane else None
        return inner_look(lane_id, at)

    work._look = look
    inner_pass = worker.tasks.work_lane

    def whole_pass(*args: Any, **kwargs: Any) -> None:
        try:
            inner_pass(*args, **kwargs)
        finally:
            Now.user = Now.committing = None

    worker.tasks.work_lane = whole_pass
    around(lane_ledger, "read_snapshot", always("2"), never)

    def read(name: str, after: Callable[..., str | None]) -> None:
        inner = getattr(work, name)

        def step(*args: Any) -> bool:
            trip("2", "after")
            done = bool(inner(*args))
            if where := after():
                trip(where, "after")
            return done

        setattr(work, name, step)

    read("begin", never)
    read("create", never)
    read("answer", never)
    read("close_session", always("11"))

    inner_create = steps.create

    def create(*args: Any) -> bool:
        trip("4", "after")  # from `begin`: written ahead, and not sent yet
        return inner_create(*args)

    steps.create = create

    def verifies(seen: lane_ledger.Snapshot, *_: Any) -> str:
        return "3" if seen.lane.state is LaneState.CLOSED else "7"

    around(LiveStripe, "create_customer", always("customer"), always("customer"))
    around(steps, "_verify", verifies, verifies)
    around(LiveStripe, "create_session", always("5"), always("5"))
    around(steps, "_publish", always("6"), always("6"))
    around(steps, "_begin_closing", never, always("9"))
    around(steps, "expire", always("10"), always("10"))
    ring = RedisDoorbell.ring

    def ring_(self: RedisDoorbell, ids: Any) -> None:
        if ids and Now.user:
            trip("8", "after")  # committed, and the bell not rung yet
        ring(self, ids)

    setattr(RedisDoorbell, "ring", ring_)  # noqa: B010
    changing("move", lambda _connection, _lane, state: STEP_OF_MOVE.get(state))
    changing("answer", lambda *_: "8")
    changing("close", lambda _connection, lane, _outcome: "11" if lane.state is LaneState.CLOSING else None)
    sa.event.listen(sa.Engine, "commit", committing)


def changing(name: str, step_of: Callable[..., str | None]) -> None:
    """Trip before a compare-and-set; after it, at its commit."""
    inner = getattr(lane_ledger, name)

    def change(*args: Any, **kwargs: Any) -> Any:
        step = step_of(*args)
        if step:
            trip(step, "before")
        done = inner(*args, **kwargs)
        Now.committing = step or Now.committing
        return done

    setattr(lane_ledger, name, change)


def committing(_connection: sa.Connection) -> None:
    """Everything is written, and COMMIT is not sent yet."""
    step, Now.committing = Now.committing, None
    if step:
        trip(step, "commit")


def become_worker(number: int) -> None:
    """Consume every queue, with one thread: at most one lane dies with this process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    log = os.open(FOLDER / "logs" / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    arm_all()
    alive = str(FOLDER / "alive" / str(os.getpid()))
    worker.__main__.main(["work", "--concurrency", "1", "--name", f"worker-{number}", "--alive-file", alive])


def main() -> None:
    global FOLDER
    FOLDER, count, starter = Path(sys.argv[1]), int(sys.argv[2]), os.getppid()
    running: dict[int, int] = {}
    while os.getppid() == starter:
        for number in set(range(count)) - set(running.values()):
            pid = os.fork()
            if pid == 0:
                become_worker(number)
            running[pid] = number
        pid, _ = os.waitpid(-1, os.WNOHANG)
        running.pop(pid, None)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
