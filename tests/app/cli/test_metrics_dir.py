"""A METRICS_DIR that cannot be used costs counts and nothing else: web, worker and beat, with a disk that is full."""

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.process.run_with_parent import launched
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment
from tests.support.valkey import Valkey, running_valkey, wait_until

# A disk of 64 KB in a mount namespace of its own, filled to the last byte.
FULL = 'mount -t tmpfs -o size=64k none "$0" && { cat /dev/zero >"$0/fill" 2>/dev/null; true; } && exec "$@"'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
FAULTS = ("full", "missing", "in place of it a file", "an empty file in it", "half a file in it", "of somebody else")


def has_namespaces() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


def faulty(fault: str, folder: Path) -> Path:
    """A METRICS_DIR with this fault."""
    metrics = folder / "metrics"
    if fault == "in place of it a file":
        metrics.write_text("")
        return metrics
    if fault == "missing":
        return Path("/proc/onelane/metrics")
    metrics.mkdir()
    if fault == "an empty file in it":
        (metrics / "another.json").write_text("")
    elif fault == "half a file in it":
        (metrics / "another.json").write_text('[{"name": "onelane_jobs", "text": "", "type": "coun')
    elif fault == "of somebody else":
        (metrics / "another.json").write_text('{"name": "onelane_jobs"}')
        (metrics / "gauge_1.db").write_bytes(b"\0" * 8)
    return metrics


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["web", "worker", "beat"])
def test_process_goes_on_without_its_metrics_and_says_so_once(
    command: str, fault: str, valkey: Valkey, tmp_path: Path
) -> None:
    """OPS-130, OPS-131, API-52, faults row 103."""
    if fault == "full" and not has_namespaces():
        pytest.skip("no mount namespace here: a full disk cannot be made")
    metrics, port, log = faulty(fault, tmp_path), own_port(), tmp_path / "log"
    url = f"sqlite:///{tmp_path}/ledger"
    ledger = Database(url)
    upgrade(ledger)
    ledger.close()
    # The alive file stands on the same disk.
    options = [] if command == "web" else ["--alive-file", str(metrics / "alive")]
    line = [sys.executable, "-P", "-m", "onelane", command, *options]
    if fault == "full":
        line = [*NAMESPACE, "sh", "-c", FULL, str(metrics), *line]
    settings = environment(
        PYTHONPATH=str(ROOT),
        METRICS_DIR=str(metrics),
        DATABASE_URL=url,
        REDIS_URL=valkey.url,
        PORT=str(port),
        CATALOG=str(ROOT / "catalog.toml"),
        **(
            {"STRIPE_API_KEY": "sk_test_nobody", "STRIPE_API_BASE": "http://127.0.0.1:1"} if command == "worker" else {}
        ),
    )
    with log.open("wb") as output:
        process = subprocess.Popen(launched(line), cwd=tmp_path, env=settings, stdout=output, stderr=output)
    try:
        signs: dict[str, Callable[[], bool]] = {
            "web": lambda: _status(port, "/readyz") == 200 and _status(port, "/metrics") == 200,
            "worker": lambda: log.read_text("utf-8").count('"worker.waits"') >= 2,
            "beat": lambda: '"beat.started"' in log.read_text("utf-8"),
        }
        wait_until(lambda: signs[command]() or process.poll() is not None, f"{command} works", seconds=60)
        assert process.poll() is None, log.read_text("utf-8")
        for _ in range(3 if command == "web" else 0):
            assert _status(port, "/webhooks/stripe", b"{}") < 500
        if command == "web":
            assert "onelane_events_recorded_total" in _text(port, "/metrics")
        written = fault not in ("full", "missing", "in place of it a file")
        said = log.read_text("utf-8").count('"metrics.not_written"')
        assert said == (0 if written else 1), log.read_text("utf-8")
        assert "Traceback" not in log.read_text("utf-8")
    finally:
        process.terminate()
        process.wait(20)


def _status(port: int, path: str, body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=body, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _text(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())
