"""Real Celery workers that can be told to die, freeze or pause at one step of the protocol, once; for tests only.

`python -m tests.kills.worker COUNT` imports once and forks COUNT workers of one thread each, and another for each that
dies. On SIGTERM it passes that on and ends with the last of them. Here are the steps of a checkout; `event_steps.py`
has those of webhooks, and `arming.py` what happens there.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

import worker.__main__
import worker.tasks
from billing.checkout import checkout_store, lane_store, steps, work
from billing.checkout.context import Context
from billing.coordination.wakeups import RedisWakeups
from billing.models import LaneState
from billing.process.run_with_parent import run_with_parent
from billing.stripe_gateway import GatewayClient
from tests.kills.arming import FOLDER, Now, always, around, committing, never, trip
from tests.kills.event_steps import arm_processing, move_times
from tests.kills.money_steps import arm_money

STEP_OF_MOVE = {LaneState.CREATING: "4", LaneState.OPEN: "6", LaneState.CLOSING: "9"}


def arm_all() -> None:
    """Put a hook before and after every step."""
    inner_read = work._read

    def read(lane_id: int, ctx: Context) -> lane_store.Snapshot | None:
        Now.committing = None
        with ctx.database.read() as connection:
            lane = lane_store.read_lane(connection, lane_id)
        Now.user = lane.user_id if lane else None
        return inner_read(lane_id, ctx)

    work._read = read
    inner_pass = worker.tasks.work_lane

    def whole_pass(*args: Any, **kwargs: Any) -> None:
        try:
            inner_pass(*args, **kwargs)
        finally:
            Now.user = Now.committing = None

    worker.tasks.work_lane = whole_pass
    around(lane_store, "read_snapshot", always("2"), never)

    def begun(name: str, after: Callable[..., str | None]) -> None:
        inner = getattr(work, name)

        def step(*args: Any) -> bool:
            trip("2", "after")
            done = bool(inner(*args))
            if where := after():
                trip(where, "after")
            return done

        setattr(work, name, step)

    begun("begin", never)
    begun("create", never)
    begun("answer", never)
    begun("close_session", always("11"))

    inner_create = steps.create

    def create(*args: Any) -> bool:
        trip("4", "after")  # from `begin`: written ahead, and not sent yet
        return inner_create(*args)

    steps.create = create

    def verifies(snapshot: lane_store.Snapshot, *_: Any) -> str:
        return "3" if snapshot.lane.state is LaneState.CLOSED else "7"

    around(GatewayClient, "create_customer", always("customer"), always("customer"))
    around(steps, "_verify", verifies, verifies)
    around(GatewayClient, "create_session", always("5"), always("5"))
    around(steps, "_publish", always("6"), always("6"))
    around(steps, "_begin_closing", never, always("9"))
    around(steps, "expire", always("10"), always("10"))
    wake = RedisWakeups.wake

    def wake_(self: RedisWakeups, ids: Any) -> None:
        if ids and Now.user:
            trip("8", "after")  # committed, and the waiter not woken yet
        wake(self, ids)

    setattr(RedisWakeups, "wake", wake_)  # noqa: B010
    changing(lane_store, "move", lambda _connection, _lane, state: STEP_OF_MOVE.get(state))
    changing(checkout_store, "answer", lambda *_: "8")
    changing(lane_store, "close", lambda _connection, lane, _outcome: "11" if lane.state is LaneState.CLOSING else None)
    sa.event.listen(sa.Engine, "commit", committing)


def changing(store: Any, name: str, step_of: Callable[..., str | None]) -> None:
    """Trip before a compare-and-set; after it, at its commit."""
    inner = getattr(store, name)

    def change(*args: Any, **kwargs: Any) -> Any:
        step = step_of(*args)
        if step:
            trip(step, "before")
        done = inner(*args, **kwargs)
        Now.committing = step or Now.committing
        return done

    setattr(store, name, change)


def become_worker(number: int) -> None:
    """Consume every queue, with one thread: at most one lane dies with this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_with_parent(os.getppid())
    log = os.open(FOLDER / "logs" / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    move_times(number)
    arm_all()
    arm_processing()
    arm_money()
    alive = str(FOLDER / "alive" / f"{number}.{os.getpid()}")
    worker.__main__.main(["work", "--concurrency", "1", "--name", f"worker-{number}", "--alive-file", alive])


def main() -> None:
    count, starter = int(sys.argv[1]), os.getppid()
    running: dict[int, int] = {}
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    while os.getppid() == starter and not stopping:
        for number in set(range(count)) - set(running.values()):
            pid = os.fork()
            if pid == 0:
                become_worker(number)
            running[pid] = number
        reap(running)
    for pid in running:
        os.kill(pid, signal.SIGTERM)  # not reaped yet, so it is still theirs
    while os.getppid() == starter and running:
        reap(running)


def reap(running: dict[int, int]) -> None:
    """Strike one that has ended off the list, after a moment in which it may."""
    time.sleep(0.02)
    with suppress(ChildProcessError):
        pid, _ = os.waitpid(-1, os.WNOHANG)
        number = running.pop(pid, None)
        (FOLDER / "alive" / f"{number}.{pid}").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
