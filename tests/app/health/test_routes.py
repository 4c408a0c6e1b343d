"""Alive, ready, figures."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.health import readiness, routes
from billing.coordination.queue import NOT_REACHABLE
from billing.database import Database
from billing.services import build_services
from tests.app.conftest import MakeApp, build_settings
from tests.support.builders import build_event, deliver
from tests.support.checkout_world import World
from tests.support.valkey import wait_until
from tests.support.web import JWT_SECRET, Web


class Silent:
    """A queue whose broker is gone."""

    def trouble(self) -> str:
        return NOT_REACHABLE


def test_ready_when_ledger_migrations_and_broker_are(web: Web) -> None:
    """API-51"""
    answer = web.get("/readyz", user=None)

    parts = ("database", "migrations", "broker", "deliveries")
    assert answer.get_json() == {"status": "ready", "checks": dict.fromkeys(parts, "ok")}
    assert answer.headers["Cache-Control"] == "no-store"


def test_each_part_that_is_not_ready_is_named(make_app: MakeApp, tmp_path: Path) -> None:
    """API-50, API-51"""
    gone = Database("postgresql://nobody@127.0.0.1:1/nothing")
    empty = Database(f"sqlite:///{tmp_path}/empty.sqlite3")
    for services, part in (
        ({"database": gone}, "database"),
        ({"database": empty}, "migrations"),
        ({"queue": Silent()}, "broker"),
    ):
        web = Web(make_app(services=services))
        answer = web.get("/readyz", user=None)
        wrong = {name for name, word in answer.get_json()["checks"].items() if word != "ok"}
        assert answer.status_code == 503
        assert part in wrong
        assert web.get("/healthz", user=None).status_code == 200
    empty.close()


class Hanging(Silent):
    """A queue whose broker does not end a word."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def trouble(self) -> str:
        return "" if self.end.wait(60) else NOT_REACHABLE


def test_part_that_hangs_is_named_and_asked_again_once_it_ended(make_app: MakeApp) -> None:
    """API-51: and meanwhile it is not asked again and again."""
    queue = Hanging()
    web = Web(make_app(services={"queue": queue}))
    for _ in range(2):
        answer = web.get("/readyz", user=None)
        assert (answer.status_code, answer.get_json()["checks"]["broker"]) == (503, "not reachable")
    queue.end.set()
    wait_until(lambda: web.get("/readyz", user=None).status_code == 200, "it is ready")


def test_parts_that_hang_are_waited_for_together(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-51: one after the other they would take twice the time that a probe has."""
    queue, now = Hanging(), time.monotonic()
    monkeypatch.setattr(routes, "examine_ledger", lambda _: {"database": queue.trouble()})
    # Time goes on by as much as is waited for, and nothing is really waited for.
    monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(routes, "time", readiness.time, raising=False)
    waited = []

    def wait(_: object, seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds
        raise TimeoutError

    monkeypatch.setattr(Future, "result", wait)
    answer = Web(make_app(services={"queue": queue})).get("/readyz", user=None)
    queue.end.set()
    assert answer.status_code == 503
    assert sum(waited) == readiness.CHECK_SECONDS


def test_broker_that_is_gone_or_hangs_is_noticed_soon() -> None:
    """API-51"""
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        for port in (1, hanging.getsockname()[1]):
            services = build_services(build_settings(redis_url=f"redis://127.0.0.1:{port}/0"))
            assert services.queue.trouble() == NOT_REACHABLE
            services.database.close()


def test_figures_come_from_the_ledger(web: Web, world: World) -> None:
    """API-52"""
    body, signature = deliver(build_event(), at=world.clock.now())
    web.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature})
    world.clock.advance(seconds=42)

    figures = web.get("/metrics", user=None).get_data(as_text=True).splitlines()

    assert {
        "onelane_ledger_up 1.0",
        "onelane_events_pending 1.0",
        "onelane_oldest_pending_seconds 42.0",
        "onelane_events_dead 0.0",
        "onelane_incidents_open 0.0",
    } <= set(figures)


def test_figures_are_given_while_the_ledger_is_down(make_app: MakeApp) -> None:
    """API-52"""
    web = Web(make_app(services={"database": Database("postgresql://nobody@127.0.0.1:1/nothing")}))

    figures = web.get("/metrics", user=None).get_data(as_text=True)

    assert "onelane_ledger_up 0.0" in figures
    assert "onelane_events_pending" not in figures


PROCESS = """
from app import create_app
from billing.services import build_services
from billing.process.settings import load_settings
settings = load_settings()
client = create_app(settings, build_services(settings)).test_client()
client.post("/webhooks/stripe", data=b"{}")
print(client.get("/metrics").get_data(as_text=True))
"""


@pytest.mark.parametrize("times", [2])
def test_processes_that_share_a_folder_count_together(tmp_path: Path, times: int) -> None:
    """API-52"""
    environment = {
        "PATH": os.environ["PATH"],
        "METRICS_DIR": str(tmp_path),
        "AUTH_JWT_SECRET": JWT_SECRET,
        "DATABASE_URL": f"sqlite:///{tmp_path}/ledger.sqlite3",
        "CATALOG": str(Path("catalog.toml").resolve()),
        "PYTHONPATH": str(Path.cwd()),
    }
    (tmp_path / "worker").mkdir()  # another container's folder inside ours
    for folder in [tmp_path / "worker"] * (times - 1) + [tmp_path]:
        run = subprocess.run(
            [sys.executable, "-c", PROCESS],
            env={**environment, "METRICS_DIR": str(folder)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )

    assert f'onelane_events_recorded_total{{result="invalid_signature"}} {times}.0' in run.stdout
    assert json.dumps(run.stdout).count("onelane_ledger_up 0.0") == 1  # no migrations there: the ledger is not up
