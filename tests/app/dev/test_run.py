"""`onelane dev` with real processes: start, death of each part, stop, and everything it has to refuse."""

import json
import os
import shutil
import signal
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.app.dev.conftest import Start
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, Dev, descendants, onelane, running, wait_until

# tests/conftest.py runs this folder's tests one at a time: each starts six processes on what may be two cores.
NOBODY = "http://127.0.0.1:1"
PARTS = {"valkey", "sandbox", "web", "checkout", "worker", "beat"}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One that runs, for the tests that leave it running."""
    # Behind a company's proxy, which nothing on this machine may use (OPS-132).
    proxy = {"HTTP_PROXY": NOBODY, "http_proxy": NOBODY, "HTTPS_PROXY": NOBODY, "https_proxy": NOBODY}
    started = Dev(tmp_path_factory.mktemp("dev"), own_port(), **proxy)
    try:
        started.says("onelane is ready")
        yield started
    finally:
        if started.process.poll() is None:
            started.terminate()


def test_everything_is_ready_when_it_says_so(dev: Dev) -> None:
    assert set(dev.children()) == PARTS
    assert dev.get("/readyz") == 200
    assert dev.get("/shop") == 200
    assert f"http://127.0.0.1:{dev.port}/shop" in dev.output
    assert "\x1b" not in dev.output, "no colours where there is no terminal"


def test_only_workers_hold_a_stripe_key(dev: Dev) -> None:
    """OPS-15"""
    if not Path("/proc").exists():
        pytest.skip("the environment of a process is read from /proc")
    holding = {
        name for name, pid in dev.children().items() if b"STRIPE_API_KEY=" in Path(f"/proc/{pid}/environ").read_bytes()
    }
    assert holding == {"checkout", "worker"}


def test_what_it_writes_is_for_its_user_only(dev: Dev) -> None:
    """OPS-18"""
    for path in [dev.folder / "var", *(dev.folder / "var").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_commands_in_the_same_folder_find_its_ledger_and_servers(dev: Dev) -> None:
    checked = onelane("doctor", "--json", folder=dev.folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {finding["subject"] for finding in json.loads(checked.stdout)} >= {"ledger", "redis", "catalog", "stripe"}
    listed = onelane("checkouts", "list", "--json", folder=dev.folder)
    assert json.loads(listed.stdout) == []


def test_second_one_in_the_folder_is_refused_in_one_line(dev: Dev) -> None:
    """OPS-16"""
    refused = onelane("dev", folder=dev.folder, PORT=str(own_port()))
    assert refused.returncode == 78
    assert len(refused.stderr.splitlines()) == 1
    assert f"already runs in this folder (process {dev.process.pid}, port {dev.port})" in refused.stderr
    assert set(dev.children()) == PARTS
    assert (dev.folder / "var" / "dev.json").exists(), "the refused one did not tidy up behind the first"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_part_that_was_killed_is_started_again(dev: Dev, name: str) -> None:
    """OPS-8"""
    before, back = dev.children(), dev.output.count(f"{name} is back")
    os.kill(before[name], signal.SIGKILL)
    dev.says(f"{name} is back", times=back + 1)
    assert f"{name} was killed by signal 9: starting it again" in dev.output
    after = dev.children()
    assert after.pop(name) != before.pop(name)
    assert after == before, "nobody else was touched"
    wait_until(lambda: _ready(dev), lambda: "the web is ready again\n" + dev.output)


def test_embedded_valkey_comes_back_with_its_data(dev: Dev) -> None:
    """OPS-17"""
    state = json.loads((dev.folder / "var" / "dev.json").read_text("utf-8"))
    with redis.Redis.from_url(state["settings"]["REDIS_URL"]) as client:
        client.rpush("kept", "message")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.execute_command("WAITAOF", 1, 0, 5000)  # on disk, as after the one second of everysec
    back = dev.output.count("valkey is back")
    os.kill(dev.children()["valkey"], signal.SIGKILL)
    dev.says("valkey is back", times=back + 1)
    with redis.Redis.from_url(state["settings"]["REDIS_URL"]) as client:
        assert client.lrange("kept", 0, -1) == [b"message"]


def test_embedded_valkey_comes_back_without_its_folder(dev: Dev) -> None:
    """OPS-17: as whoever tries a lost queue does it."""
    back = dev.output.count("valkey is back")
    shutil.rmtree(dev.folder / "var" / "valkey")
    os.kill(dev.children()["valkey"], signal.SIGKILL)
    dev.says("valkey is back", times=back + 1)


def test_stop_leaves_nothing_and_the_second_start_keeps_its_tokens(tmp_path: Path, start: Start) -> None:
    """OPS-6"""
    port = own_port()
    first = start(tmp_path, port)
    first.says("onelane is ready")
    below = descendants(first.process.pid)
    secrets = (tmp_path / "var" / "dev-secrets.json").read_text("utf-8")
    assert first.terminate(signal.SIGINT) == 0
    assert running(below) == []
    assert "Traceback" not in first.output
    assert "did not stop in time" not in first.output
    assert first.output.count("worker.stopped") == 2
    assert "Warm shutdown" not in first.output, "Celery's own line is in no log (OPS-2)"
    assert not (tmp_path / "var" / "dev.json").exists()

    second = start(tmp_path, port)
    second.says("onelane is ready")
    assert (tmp_path / "var" / "dev-secrets.json").read_text("utf-8") == secrets, "tokens outlive a restart"
    below = descendants(second.process.pid)
    assert len(below) >= len(PARTS)
    second.process.kill()
    second.process.wait()
    wait_until(lambda: not running(below), lambda: f"orphans: {running(below)}", seconds=5)


def test_folder_with_packages_of_our_names_changes_nothing(tmp_path: Path, start: Start) -> None:
    """OPS-76"""
    for name in ("app", "worker", "billing", "sandbox"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('somebody else')", "utf-8")
    dev = start(tmp_path, own_port(), PYTHONPATH=f".{os.pathsep}{ROOT}")
    dev.says("onelane is ready")
    assert set(dev.children()) == PARTS
    assert "somebody else" not in dev.output
    assert dev.terminate() == 0


def test_interrupt_while_starting_stops_what_was_started(tmp_path: Path, start: Start) -> None:
    """OPS-6"""
    dev = start(tmp_path, own_port())
    wait_until(lambda: len(descendants(dev.process.pid)) >= 2, lambda: dev.output, seconds=60)
    below = descendants(dev.process.pid)
    assert dev.terminate() == 0
    assert running(below) == []
    assert "onelane is ready" not in dev.output


def test_port_that_is_taken_is_named_with_its_holder(tmp_path: Path) -> None:
    """OPS-7"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = onelane("dev", folder=tmp_path, PORT=str(port))
    assert refused.returncode == 78
    assert refused.stdout == ""
    who = f"(process {os.getpid()})" if Path("/proc/net/tcp").exists() else "another program"
    assert refused.stderr.startswith(f"onelane: PORT {port} is taken by ")
    assert who in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_program_that_cannot_start_is_given_up_with_its_reason(tmp_path: Path, start: Start) -> None:
    """OPS-8, OPS-5: a wrong setting is not tried five times."""
    dev = start(tmp_path, own_port(), STRIPE_ACCOUNT="acct_somebody_else")
    assert dev.process.wait(30) == 78
    assert "STRIPE_ACCOUNT" in dev.output
    assert "Traceback" not in dev.output
    assert running(descendants(dev.process.pid)) == []


def test_given_stripe_is_used_and_no_sandbox_starts(tmp_path: Path, dev: Dev, start: Start) -> None:
    """OPS-13"""
    state = json.loads((dev.folder / "var" / "dev.json").read_text("utf-8"))["settings"]
    other = start(
        tmp_path,
        own_port(),
        STRIPE_API_KEY="sk_test_given_by_hand",
        STRIPE_API_BASE=state["STRIPE_API_BASE"],
        REDIS_URL=state["REDIS_URL"].removesuffix("0") + "5",
        DATABASE_URL=f"sqlite:///{tmp_path}/given.sqlite3",
    )
    other.says("onelane is ready")
    assert set(other.children()) == PARTS - {"sandbox", "valkey"}
    assert (tmp_path / "given.sqlite3").exists()
    assert "sk_test_given_by_hand" not in (tmp_path / "var" / "dev.json").read_text("utf-8")
    if Path("/proc").exists():  # where a key that was given is read from
        checked = onelane("doctor", "--json", folder=tmp_path)
        assert [one for one in json.loads(checked.stdout) if one["verdict"] in ("wrong", "unavailable")] == []
    assert other.terminate() == 0
    assert "sk_test_given_by_hand" not in other.output


def _ready(dev: Dev) -> bool:
    try:
        return dev.get("/readyz") == 200
    except OSError:
        return False


@pytest.mark.parametrize("where", [".env", "file"])
def test_sandbox_signs_with_the_secret_that_was_given_wherever_that_was(
    tmp_path: Path, where: str, start: Start
) -> None:
    """OPS-13, WHK-2"""
    (tmp_path / "signing").write_text("whsec_the_new_one, whsec_the_old_one\n", "utf-8")
    line = "STRIPE_WEBHOOK_SECRETS=whsec_the_new_one,whsec_the_old_one\n"
    (tmp_path / ".env").write_text(line if where == ".env" else "", "utf-8")
    given = {} if where == ".env" else {"STRIPE_WEBHOOK_SECRETS_FILE": "signing"}
    dev = start(tmp_path, own_port(), LOG_LEVEL="debug", **given)
    dev.says("onelane is ready")
    state = json.loads((tmp_path / "var" / "dev.json").read_text("utf-8"))["settings"]
    urllib.request.urlopen(
        urllib.request.Request(
            f"{state['STRIPE_API_BASE']}/v1/customers",
            data=b"email=ann%40example.com",
            headers={"Authorization": "Bearer sk_test_any"},
        )
    ).close()
    dev.says("event.recorded")
    assert "event.refused" not in dev.output
    assert dev.terminate() == 0
