"""Real workers on a real Valkey: when messages are worked, what forged ones do, what a signal does."""

import base64
import json
import pickle
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis

from billing.coordination.jobs import RemedyDuplicates, WorkLane
from billing.coordination.queue import CeleryQueue
from tests.worker.conftest import Valkey, Worker, wait_until

Start = Callable[..., Worker]
LIST = "onelane:maintenance"


def test_delayed_job_is_worked_after_its_delay_and_not_before(queue: CeleryQueue, start_worker: Start) -> None:
    worker = start_worker()
    queue.send(WorkLane(1), delay_seconds=1.5)
    queue.send(WorkLane(2))
    wait_until(lambda: worker.noted("done") == [2], "the other job goes first")
    wait_until(lambda: worker.noted("done") == [2, 1], "the delayed job")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_finishes_the_work_in_hand_and_leaves_the_rest_in_the_queue(
    number: int, queue: CeleryQueue, client: "redis.Redis", start_worker: Start
) -> None:
    """OPS-14, OPS-134"""
    worker = start_worker(concurrency=1)
    for row_id in (100, 101, 102):
        queue.send(WorkLane(row_id))
    queue.send(WorkLane(50), delay_seconds=1)  # held in the worker's memory
    wait_until(lambda: worker.noted("begun") == [100], "the first job has begun")
    assert worker.stop(number) == 0
    assert worker.noted("done") == [100]
    assert client.llen("onelane:checkout") == 3, "nothing is lost, nothing waits for the visibility timeout"

    successor = start_worker()
    wait_until(lambda: len(successor.noted("done")) == 4, "the successor works the rest")
    assert sorted(successor.noted("done")) == [50, 100, 101, 102], "each once"


def test_killed_worker_leaves_its_message_with_the_broker(
    queue: CeleryQueue, client: "redis.Redis", start_worker: Start
) -> None:
    """OPS-10: acknowledged after the work, so the broker still has what a killed worker had begun."""
    worker = start_worker()
    queue.send(WorkLane(100))
    wait_until(lambda: worker.noted("begun") == [100], "begun")
    worker.process.kill()
    worker.process.wait()
    assert client.hlen("onelane:unacked") == 1


def test_worker_goes_on_after_every_kind_of_failure(queue: CeleryQueue, start_worker: Start) -> None:
    """OPS-11, OPS-12"""
    worker = start_worker(concurrency=1)
    for row_id in (601, 602, 3):
        queue.send(RemedyDuplicates(row_id))
    wait_until(lambda: worker.noted("done") == [3], "the job behind the failures")
    assert '"event": "job.stopped"' in worker.log
    assert '"event": "job.crashed"' in worker.log
    assert "secretofthetest" not in worker.log, "a traceback is redacted too"


def test_transient_failure_of_a_lane_comes_again_by_itself(queue: CeleryQueue, start_worker: Start) -> None:
    """OPS-11"""
    worker = start_worker()
    queue.send(WorkLane(600))
    wait_until(lambda: len(worker.noted("begun")) >= 3, "put back and taken again")


def test_worker_outlives_a_restart_of_the_broker(valkey: Valkey, queue: CeleryQueue, start_worker: Start) -> None:
    worker = start_worker()
    valkey.kill()
    valkey.start()
    queue.send(WorkLane(1))
    wait_until(lambda: worker.noted("done") == [1], "worked after the restart", seconds=20)
    assert worker.process.poll() is None


def test_broker_that_goes_away_while_all_hands_are_full_costs_no_hand(
    valkey: Valkey, queue: CeleryQueue, start_worker: Start
) -> None:
    """OPS-25: nobody reads from the broker then, so it is the acknowledgement that finds it gone."""
    worker = start_worker(concurrency=2)
    queue.send(WorkLane(100))
    queue.send(WorkLane(101))
    wait_until(lambda: sorted(worker.noted("begun")) == [100, 101], "both hands are full")
    valkey.kill()
    wait_until(lambda: worker.log.count("message.not_acknowledged") > 0, "the work is done, and nobody hears it")
    valkey.start()
    for row_id in (1, 2, 3):
        queue.send(WorkLane(row_id))
    wait_until(lambda: {1, 2, 3} <= set(worker.noted("done")), "worked after the restart", seconds=20)


def message(
    body: Any, *, task: Any = "duplicates.remedy", content_type: str = "application/json", **headers: Any
) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    properties = {
        "correlation_id": "1",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "maintenance"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": "1",
    }
    envelope = {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": "1", "argsrepr": "", "kwargsrepr": "", **headers},
        "properties": properties,
    }
    return json.dumps(envelope).encode()


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("import os; os._exit(66)",))


EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
FORGED = {
    "pickle": message(pickle.dumps(([Bomb()], {}, EMBED)), content_type="application/x-python-serialize"),
    "yaml": message(b"!!python/object/apply:os._exit [66]", content_type="application/x-yaml"),
    "unknown task": message([[7], {}, EMBED], task="os.system"),
    "celery's own task": message([[[], 7], {}, EMBED], task="celery.map"),
    "no argument": message([[], {}, EMBED]),
    "two arguments": message([[7, 8], {}, EMBED]),
    "a text": message([["7"], {}, EMBED]),
    "true": message([[True], {}, EMBED]),
    "negative": message([[-7], {}, EMBED]),
    "a huge number": message([[10**30], {}, EMBED]),
    "a huge argument": message([["x" * 1_000_000], {}, EMBED]),
    "keywords": message([[], {"row_id": 7}, EMBED]),
    "celery's own task, well made": message(
        [[{"task": "duplicates.remedy", "args": [], "options": {}}, [[7]]], {}, EMBED], task="celery.map"
    ),
    "the old protocol": message({"task": "duplicates.remedy", "id": "1", "args": [7]}, task=None),
    "a task that is no text": message([[7], {}, EMBED], task=["duplicates.remedy"]),
    "a sweep with arguments": message([[7], {}, EMBED], task="ledger.sweep"),
    "no embed": message([[7], {}]),
    "a number as body": message(7),
    "a text as arguments": message(["seven", {}, EMBED]),
    "a list as keywords": message([[7], [], EMBED]),
    "a nonsense time": message([["7"], {}, EMBED], eta="yesterday"),
    "a nonsense expiry": message([["7"], {}, EMBED], expires="yesterday"),
    "nonsense limits": message([["7"], {}, EMBED], timelimit="x"),
}
# What no client of Celery writes: kombu trips over it, when it has taken it from the list already.
RUBBISH = {
    "no headers": json.dumps({"body": "e30=", "content-type": "application/json", "properties": {}}).encode(),
    "an empty object": b"{}",
    "a list": b"[]",
    "null": b"null",
    "no JSON": b"\x80\x04 not json \xff",
    "deep JSON": b"[" * 100_000,
    "body not base64": re.sub(b'"body": "[^"]*"', b'"body": "x"', message([[7], {}, EMBED])),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_message_is_refused_and_the_worker_stays(
    name: str, queue: CeleryQueue, client: "redis.Redis", start_worker: Start
) -> None:
    """OPS-12: faults row 74."""
    worker = start_worker(concurrency=1)
    client.lpush(LIST, FORGED[name])
    queue.send(RemedyDuplicates(3))
    wait_until(lambda: worker.noted("done") == [3] or worker.process.poll() is not None, "the job behind it")
    assert worker.process.poll() is None, worker.log
    assert worker.noted("begun") == [3], "nothing else was worked"
    assert all(len(line) <= 2048 and line.startswith("{") for line in worker.log.splitlines()), worker.log


@pytest.mark.parametrize("name", RUBBISH)
def test_what_is_no_message_costs_at_most_one_start_of_the_worker_and_no_other_message(
    name: str, queue: CeleryQueue, client: "redis.Redis", start_worker: Start
) -> None:
    """OPS-12: the supervisor starts it anew, and it meets the rubbish no more."""
    worker = start_worker(concurrency=1)
    queue.send(RemedyDuplicates(100))  # in hand meanwhile
    wait_until(lambda: worker.noted("begun") == [100], "it works")
    client.lpush(LIST, RUBBISH[name])
    queue.send(RemedyDuplicates(3))
    wait_until(lambda: 3 in worker.noted("done") or worker.process.poll() is not None, "the job behind it")
    if worker.process.poll() is not None:
        assert worker.process.poll() == 1, worker.log
        worker = start_worker(concurrency=1)
        wait_until(lambda: 3 in worker.noted("done"), "the job behind it")
        assert worker.process.poll() is None, worker.log
    assert set(worker.noted("done")) == {100, 3}
    assert all(len(line) <= 2048 and line.startswith("{") for line in worker.log.splitlines()), worker.log
