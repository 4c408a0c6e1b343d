"""`onelane events replay` and `onelane dead`: what an operator sees, and what a wrong command line must not do."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.clock import SYSTEM_CLOCK
from billing.coordination.jobs import QUEUES, ReplayEvents
from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.maintenance.replay_run import work_run
from billing.models import events
from billing.operators.listing import Wanted
from billing.operators.presence import Heartbeat, takes
from billing.operators.replays import list_replays
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment, onelane, wait_until

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a ledger in which 150 events are dead and one is done."""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    ledger = Database(f"sqlite:///{tmp_path}/var/ledger.sqlite3")
    upgrade(ledger)
    now = datetime.now(UTC)
    rows = [
        {
            "livemode": False,
            "event_id": f"evt_{number}",
            "type": "invoice.paid" if number % 2 else "customer.subscription.updated",
            "customer_id": f"cus_{number}",
            "status": "dead" if number else "done",
            "attempts": 20,
            "error": "\x1b[31mred",
            "next_attempt_at": now,
            "created_at": now,
            "received_at": now - timedelta(hours=number),
        }
        for number in reversed(range(151))  # a ledger numbers them as they come
    ]
    with ledger.write() as connection:
        connection.execute(sa.insert(events), rows)
    ledger.close()
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Run a command there, with no Redis and no worker."""
    nobody = f"redis://127.0.0.1:{own_port()}/0"
    return lambda *words: onelane(*words, folder=folder, REDIS_URL=nobody)


def statuses(folder: Path) -> dict[str, int]:
    ledger = Database(f"sqlite:///{folder}/var/ledger.sqlite3")
    with ledger.read() as connection:
        counted = connection.execute(sa.select(events.c.status, sa.func.count()).group_by(events.c.status)).all()
    ledger.close()
    return {row[0]: row[1] for row in counted}


def test_dry_run_counts_and_changes_nothing(run: Run, folder: Path) -> None:
    """LED-16"""
    ended = run("dead", "redrive", "--type", "invoice.*", "--since", "10h", "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "5 events of 5 customers: 5 dead.\n")
    assert statuses(folder) == {"dead": 150, "done": 1}
    assert json.loads(run("events", "replays", "--json").stdout) == []


def test_one_event_is_replayed_and_shows_it(run: Run, folder: Path) -> None:
    """LED-16, OPS-166: with Redis gone, too; the sweep finds it."""
    ended = run("events", "replay", "evt_0", "evt_7", "--reason", "asked by support")
    assert ended.returncode == 1, "they are not done"
    done = "Replayed 2 of 2 (replay 1): 2 waiting for a worker.\n"
    assert ended.stdout == f"2 events of 2 customers: 1 dead, 1 done.\n{done}"
    assert "No worker takes the queue webhooks" in ended.stderr
    shown = json.loads(run("events", "show", "evt_7", "--json").stdout)
    assert [(one["reason"], one["was_status"]) for one in shown["replays"]] == [("asked by support", "dead")]
    again = run("events", "replay", "evt_7", "--reason", "impatience")
    assert again.stdout == "Nothing to replay: no such events, or they wait for a worker already.\n"
    missing = run("events", "replay", "evt_0", "evt_nowhere", "--reason", "r")
    assert missing.returncode == 1
    assert "evt_nowhere" in missing.stderr
    assert "\x1b" not in run("dead", "list").stdout
    assert len(json.loads(run("dead", "list", "--limit", "1000", "--json").stdout)) == 149


def test_redrive_by_id_leaves_alone_what_is_not_dead(run: Run, folder: Path) -> None:
    """LED-17"""
    assert run("dead", "redrive", "evt_0", "--reason", "r").stdout.startswith("Nothing to replay")
    assert statuses(folder) == {"dead": 150, "done": 1}


@pytest.mark.parametrize(
    "words",
    [
        ["events", "replay", "--reason", "r", "--yes"],
        ["events", "replay", "evt_1", "--type", "invoice.paid", "--reason", "r"],
        ["events", "replay", "--status", "rejected", "--reason", "r", "--yes"],
        ["events", "replay", "--since", "yesterday", "--reason", "r", "--yes"],
        ["events", "replay", "evt_1"],
        ["dead", "redrive", "--all", "--yes"],
        ["dead", "redrive", "--all", "--reason", " ", "--yes"],
        ["dead", "redrive", "--all", "--reason", "r"],
        ["dead", "redrive", "--reason", "r", "--yes"],
        ["dead", "redrive", "--all", "--type", "invoice.paid", "--reason", "r", "--yes"],
    ],
    ids=[
        "everything",
        "ids and filter",
        "rejected",
        "no time",
        "no reason",
        "none",
        "blank reason",
        "nobody to ask",
        "empty filter",
        "all and some",
    ],
)
def test_replay_that_is_not_clear_is_not_begun(words: list[str], run: Run, folder: Path) -> None:
    """LED-16, OPS-186: exit code 2, and nothing is changed."""
    ended = run(*words)
    assert ended.returncode == 2, ended.stderr
    assert statuses(folder) == {"dead": 150, "done": 1}


def test_ctrl_c_stops_after_the_batch_in_hand_and_says_how_far_it_came(folder: Path) -> None:
    """LED-18, LED-19: a worker sets the first batch back, and nobody takes it."""
    words = [sys.executable, "-P", "-m", "onelane", "dead", "redrive", "--all", "--reason", "r", "--yes"]
    redis = f"redis://127.0.0.1:{own_port()}/0"
    settings: dict[str, Any] = {"env": environment(PYTHONPATH=str(ROOT), REDIS_URL=redis), "cwd": folder}
    ledger = Database(f"sqlite:///{folder}/var/ledger.sqlite3")
    worker = Heartbeat(ledger, kind="worker", queues=QUEUES).start()
    try:
        wait_until(lambda: takes(ledger, ReplayEvents.queue), lambda: "the worker is not seen")
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings) as process:
            wait_until(lambda: bool(list_replays(Wanted(1), database=ledger)), lambda: str(statuses(folder)))
            work_run(1, database=ledger, queue=InlineQueue(), clock=SYSTEM_CLOCK)
            process.send_signal(signal.SIGINT)
            shown, complained = process.communicate(timeout=20)
    finally:
        worker.stop()
        ledger.close()
    assert process.returncode == 1, complained
    assert shown.splitlines()[-1] == "Replayed 100 of 150 (replay 1): 100 waiting for a worker."
    assert [line.split(":")[0] for line in complained.splitlines()] == ["The broker does not answer", "Stopped"]
    assert statuses(folder) == {"pending": 100, "dead": 50, "done": 1}


def test_without_a_worker_a_replay_of_many_is_not_begun(run: Run, folder: Path) -> None:
    """LED-19"""
    ended = run("dead", "redrive", "--all", "--reason", "r", "--yes")
    assert (ended.returncode, "No worker takes the queue maintenance." in ended.stderr) == (69, True), ended.stderr
    assert statuses(folder) == {"dead": 150, "done": 1}


def test_failures_are_grouped_a_running_replay_is_stopped_and_who_looked_is_kept(run: Run, folder: Path) -> None:
    """OPS-167, OPS-165, LED-18"""
    (group,) = json.loads(run("events", "failures", "--type", "invoice.*", "--json").stdout)
    assert (group["error"], group["events"], group["dead"]) == ("\x1b[31mred", 75, 75)
    assert run("events", "stop", "1", "--reason", "enough").returncode == 1
    assert run("events", "stop", "1").returncode == 2
    assert run("events", "show", "evt_7", "--payload").returncode == 0
    newest = json.loads(run("audit", "list", "--json").stdout)[0]
    assert (newest["command"], newest["target"]) == ("events show --payload", "evt_7")
