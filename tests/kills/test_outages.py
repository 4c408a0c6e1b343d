"""What a checkout stands on goes away in the middle: Valkey emptied or killed, PostgreSQL killed, Stripe cut off.

Real processes; the same end check E as the matrix. `KILLS=full` does each at every step where it may matter.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.kills.asking import in_background, stopped
from tests.kills.postgres import KillablePostgres
from tests.kills.steps import CHANGES, FULL, prepared
from tests.kills.world import World, running_world
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(postgres_of_ours: KillablePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("outages")
    with running_world(folder, database=postgres_of_ours.database, workers=4, sweep_seconds=1) as running:
        yield running


def _chosen(full: list[str], quick: list[str]) -> list[str]:
    return full if FULL else quick


@pytest.mark.parametrize("step", _chosen(["3", "5", "6", "7", "8", "10", "11"], ["5", "10"]))
def test_flushed_redis_lets_two_workers_in_and_only_one_changes_the_lane(world: World, step: str) -> None:
    """LAN-1, LAN-2; faults rows 20 and 21: FLUSHALL in the middle of a checkout, two holders of its lock."""
    user_id = f"flushed-{step}"
    plan, creates = prepared(world, user_id, step)
    world.arm(user_id, step, "before", "pause")
    answered = in_background(lambda: world.buy(user_id, plan=plan))
    paused = world.tripped(user_id)
    with redis.Redis.from_url(world.valkey.url) as client:
        client.flushall()
    answer = answered()
    world.release(user_id)
    wait_until(lambda: world.said(paused, "lane.moved_on", user_id), "the first worker lost its compare-and-set")
    world.at_rest(user_id, answer["url"], creates=creates)


def test_queue_that_is_flushed_costs_time_only(world: World) -> None:
    """LED-8, CHK-13; faults row 20: the jobs are lost, the rows are not."""
    buyers = [f"unqueued-{number}" for number in range(5)]
    with stopped(world.worker_pids()):
        statuses = {world.post(user_id, wait=0).status for user_id in buyers}
        with redis.Redis.from_url(world.valkey.url) as client:
            client.flushall()
    assert statuses == {202}
    answers = [in_background(lambda user_id=user_id: world.buy(user_id)) for user_id in buyers]  # type: ignore[misc]
    for user_id, answered in zip(buyers, answers, strict=True):
        world.at_rest(user_id, answered()["url"], creates=1)


@pytest.mark.parametrize("step", _chosen(["3", "5", "6", "7", "8", "10", "11"], ["5"]))
def test_valkey_killed_and_back_without_its_data_costs_time_only(world: World, step: str) -> None:
    """LAN-1; faults row 19."""
    user_id = f"emptied-{step}"
    plan, creates = prepared(world, user_id, step)
    world.arm(user_id, step, "after", "pause")
    answered = in_background(lambda: world.buy(user_id, plan=plan))
    world.tripped(user_id)
    world.valkey.kill()
    world.valkey.forget()
    world.release(user_id)
    time.sleep(1)  # it goes on without a lock, wake-ups or a queue
    world.valkey.start()
    answer = answered()
    world.at_rest(user_id, answer["url"], creates=creates)
    world.at_rest(f"{user_id}-next", world.buy(f"{user_id}-next")["url"], creates=1)  # the queue works again


@pytest.mark.parametrize("step", _chosen(CHANGES, ["6"]))
@pytest.mark.parametrize("moment", _chosen(["commit", "after"], ["commit"]))
def test_postgres_killed_at_a_commit_is_asked_again_when_it_is_back(
    world: World, postgres_of_ours: KillablePostgres, step: str, moment: str
) -> None:
    """LAN-9; faults rows 23 and 24: the change is lost with the commit, and made again from the row as it is."""
    user_id = f"crashed-{step}-{moment}"
    plan, creates = prepared(world, user_id, step)
    world.arm(user_id, step, moment, "pause")
    answered = in_background(lambda: world.buy(user_id, plan=plan))
    world.tripped(user_id)
    postgres_of_ours.kill()
    try:
        refused = world.post("nobody", wait=1)
        world.release(user_id)
        assert (refused.status, refused.body["code"], refused.location) == (503, "ledger_unavailable", None)
        assert refused.retry_after is not None
    finally:
        postgres_of_ours.start()
    world.at_rest(user_id, answered()["url"], creates=creates)


@pytest.mark.parametrize("what", ["customer", "session"])
def test_creation_whose_answer_was_cut_off_is_sent_again_with_its_key(world: World, what: str) -> None:
    """LAN-7, CHK-2, CHK-8; faults row 35."""
    user_id = f"cut-{what}"
    world.arm(user_id, "customer" if what == "customer" else "5", "before", "pause")
    answered = in_background(lambda: world.buy(user_id))
    world.tripped(user_id)
    world.proxy.cut(user_id.encode())
    world.release(user_id)
    answer = answered()
    assert world.proxy.cuts[user_id.encode()] == 0
    world.at_rest(user_id, answer["url"], creates=1)


def test_expiry_whose_answer_was_cut_off_is_looked_into(world: World) -> None:
    """LAN-8; faults row 39."""
    user_id = "cut-expire"
    session_id = world.buy(user_id)["session_id"]
    request = f"{session_id}/expire".encode()
    world.proxy.cut(request)
    answer = world.buy(user_id, plan="commit")
    assert world.proxy.cuts[request] == 0
    world.at_rest(user_id, answer["url"], creates=2)


SPOILED = {
    "429 with Retry-After, three times (31)": ({"kind": "status", "status": 429, "times": 3}, 1),
    "500 without effect, saved (32)": ({"kind": "save_500_without_effect"}, 1),
    "500 with effect, saved (33)": ({"kind": "save_500_with_effect"}, 1),
    "reset before it ran (34)": ({"kind": "drop_before"}, 1),
    "timeout, while it runs (34, 38)": ({"kind": "delay", "seconds": 5.0}, 1),
    "page of a proxy (46)": ({"kind": "html", "status": 502}, 1),
    "half an answer (46)": ({"kind": "truncated"}, 1),
    "redirect (46)": ({"kind": "redirect"}, 1),
}


@pytest.mark.parametrize("name", _chosen(list(SPOILED), ["500 with effect, saved (33)", "half an answer (46)"]))
def test_spoiled_creation_makes_one_session(world: World, name: str) -> None:
    """LAN-7, LAN-17; faults rows 31 to 34, 38 and 46, over HTTP and with several workers."""
    fault, creates = SPOILED[name]
    user_id = f"spoiled-{list(SPOILED).index(name)}"
    world.stripe.control("POST", "/_sandbox/faults", {"path": "^/v1/checkout/sessions$", "method": "POST", **fault})
    world.at_rest(user_id, world.buy(user_id)["url"], creates=creates)


def test_nothing_that_was_killed_left_a_trace(world: World, tmp_path: Path) -> None:
    """A last buyer is served as if nothing had been."""
    answer = world.buy("last")
    world.at_rest("last", answer["url"], creates=1)
