"""Beats on a real Valkey: one at once, then one each interval, and two do no harm."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from billing.coordination.jobs import Sweep
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.worker.conftest import ROOT, Valkey, wait_until
from worker.app import create_celery
from worker.schedule import LOOK_SECONDS, MOST_WAITING, SCHEDULE, MemoryScheduler


def test_two_beats_send_sweeps_that_expire_and_end_at_sigterm(
    valkey: Valkey, client: "redis.Redis", tmp_path: Path
) -> None:
    """OPS-9"""
    beats = [start_beat(valkey, tmp_path / f"alive{number}") for number in range(2)]
    try:
        wait_until(lambda: client.llen("onelane:maintenance") == 2, "each sent one at once")
        wait_until(lambda: all((tmp_path / f"alive{number}").exists() for number in range(2)), "both tick")
        messages: list[dict[str, Any]] = [json.loads(raw) for raw in client.lrange("onelane:maintenance", 0, -1)]
        for message in messages:
            assert message["headers"]["task"] == Sweep.kind
            assert message["headers"]["expires"] is not None
    finally:
        for beat in beats:
            beat.send_signal(signal.SIGTERM)
    assert [beat.wait(10) for beat in beats] == [0, 0]
    assert not list(tmp_path.glob("*schedule*")), "a beat remembers nothing"


def test_beat_whose_broker_takes_no_writes_stays(valkey: Valkey, client: "redis.Redis", tmp_path: Path) -> None:
    """OPS-51: a Valkey that became a replica."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    beat = start_beat(valkey, tmp_path / "alive")
    try:
        wait_until(lambda: (tmp_path / "alive").exists() or beat.poll() is not None, "it ticks")
        assert beat.poll() is None
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
        beat.send_signal(signal.SIGTERM)
    assert beat.wait(10) == 0


def start_beat(valkey: Valkey, alive: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        launched([sys.executable, "-m", "worker", "beat", "--alive-file", str(alive)]),
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": valkey.url, "CATALOG": str(ROOT / "catalog.toml")},
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("entry", SCHEDULE.values())
def test_scheduled_message_expires_before_the_next_but_one(entry: dict[str, Any]) -> None:
    """OPS-9"""
    assert entry["schedule"] <= LOOK_SECONDS
    assert entry["options"]["expires"] <= 2 * entry["schedule"]


def test_messages_that_nobody_reads_do_not_pile_up(
    valkey: Valkey, client: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-135, faults row 108: a day without a worker of that queue is as long as two minutes."""
    celery = create_celery(Settings(redis_url=valkey.url, _env_file=None), services=lambda: None)  # type: ignore[arg-type]
    scheduler = MemoryScheduler(app=celery)
    for _ in range(20):
        for entry in scheduler.schedule.values():
            scheduler.apply_entry(entry, producer=scheduler.producer)
    assert client.llen("onelane:maintenance") == MOST_WAITING
    assert capsys.readouterr().out.count("beat.nobody_reads") == 1

    client.delete("onelane:maintenance")  # a worker came
    for entry in scheduler.schedule.values():
        scheduler.apply_entry(entry, producer=scheduler.producer)
    assert client.llen("onelane:maintenance") == len(scheduler.schedule)
    celery.close()
