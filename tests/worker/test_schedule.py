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

from billing.jobs import SWEEP_KIND
from tests.worker.conftest import ROOT, Valkey, wait_until
from worker.schedule import LOOK_SECONDS, SCHEDULE


def test_two_beats_send_sweeps_that_expire_and_end_at_sigterm(
    valkey: Valkey, client: "redis.Redis", tmp_path: Path
) -> None:
    """OPS-9"""
    environment = {**os.environ, "REDIS_URL": valkey.url, "CATALOG": str(ROOT / "catalog.toml")}
    beats = [
        subprocess.Popen(
            [sys.executable, "-m", "worker", "beat", "--alive-file", tmp_path / f"alive{number}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for number in range(2)
    ]
    try:
        wait_until(lambda: client.llen("onelane:maintenance") == 2, "each sent one at once")
        wait_until(lambda: all((tmp_path / f"alive{number}").exists() for number in range(2)), "both tick")
        messages: list[dict[str, Any]] = [json.loads(raw) for raw in client.lrange("onelane:maintenance", 0, -1)]
        for message in messages:
            assert message["headers"]["task"] == SWEEP_KIND
            assert message["headers"]["expires"] is not None
    finally:
        for beat in beats:
            beat.send_signal(signal.SIGTERM)
    assert [beat.wait(10) for beat in beats] == [0, 0]
    assert not list(tmp_path.glob("*schedule*")), "a beat remembers nothing"


@pytest.mark.parametrize("entry", SCHEDULE.values())
def test_scheduled_message_expires_before_the_next_but_one(entry: dict[str, Any]) -> None:
    """OPS-9"""
    assert entry["schedule"] <= LOOK_SECONDS
    assert entry["options"]["expires"] <= 2 * entry["schedule"]
