"""Where nothing is ours: a read-only root, a user that no file knows, no home, an environment of settings alone.

Really so: in a mount namespace whose root is read-only, /tmp too, as user 54321.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from billing.process.run_with_parent import launched
from tests.bench.stage import running_sandbox
from tests.bench.storm import KEY
from tests.kills.asking import answers
from tests.kills.proxy import Proxy
from tests.support.databases import Postgres
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, descendants
from tests.support.valkey import running_valkey, wait_until

STRANGER = "54321"
NEEDED = [ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
# The folders of others, such as /root, in which something lies that these processes read.
CLOSED = {folder for one in NEEDED for folder in (one, *one.parents) if not folder.stat().st_mode & 0o001}
OPENED = "".join(
    f"""
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/{number} && mount --bind {one} /mnt/{number}
mount -t tmpfs -o mode=755 none {closed}
mkdir -p {one} && mount --bind /mnt/{number} {one}
mount -o remount,bind,ro {one} && mount -o remount,ro {closed}"""
    for closed in CLOSED
    for number, one in enumerate(NEEDED)
    if closed in (one, *one.parents)
)
# What a container can write by itself (/dev/shm) stays; of what else is mounted, nothing is this user's.
READ_ONLY = f"""
mount --make-rprivate /
{OPENED}
mount -o remount,bind,ro /
if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi
exec "$@"
"""
INSIDE = ["unshare", "--mount", "--fork", "--kill-child", "sh", "-ec", READ_ONLY, "sh"]
AS_STRANGER = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--no-new-privs", "env", "-i"]
LINE = [*INSIDE, *AS_STRANGER]


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    """Skip where this cannot be made."""
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("a read-only root and a foreign user take root's rights, unshare and setpriv")
    look = f"! touch {ROOT}/x && ! touch /tmp/x && cat {ROOT}/catalog.toml && {sys.executable} -c 1"
    if subprocess.run([*LINE, "sh", "-ec", look], capture_output=True).returncode:
        pytest.skip(f"user {STRANGER} may not read {ROOT} or run this Python, or the root cannot be made read-only")


@pytest.fixture(scope="module")
def ground(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of processes whose servers are all there."""
    folder = tmp_path_factory.mktemp("ground")
    with (
        postgres.fresh() as ledger,
        running_valkey(folder / "valkey") as valkey,
        running_sandbox(folder, "--seed", str(ROOT / "deploy" / "sandbox-seed.json")) as stripe,
    ):
        proxy = Proxy(f"{ledger.url.query['host']}/.s.PGSQL.5432")  # its socket is in a folder of another user's
        url = ledger.url.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
        yield {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "REDIS_URL": valkey.url,
            "STRIPE_API_BASE": stripe,
            "CATALOG": str(ROOT / "catalog.toml"),
            "STRIPE_WEBHOOK_SECRETS": "whsec_" + "a" * 32,
            "AUTH_JWT_SECRET": "0123456789abcdef" * 2,
            "REDIRECT_ORIGINS": "https://app.example.com",
            "ONELANE_LOG": "json",
        }
        proxy.close()


def command(*words: str, **settings: str) -> list[str]:
    given = [f"{name}={value}" for name, value in settings.items()]
    return launched([*LINE, *given, sys.executable, "-P", "-m", "onelane", *words])


def run(*words: str, **settings: str) -> str:
    """Run a command to its end."""
    done = subprocess.run(command(*words, **settings), cwd="/", capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(log: Path, *words: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that serves; in the end it is told to stop, and does."""
    with log.open("wb") as output:
        process = subprocess.Popen(command(*words, **settings), cwd="/", stdout=output, stderr=output)
    try:
        yield process
        (inner,) = descendants(process.pid, deep=False)
        os.kill(inner, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text("utf-8")
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text("utf-8")


def test_migration_and_doctor(ground: dict[str, str]) -> None:
    """OPS-153, fault 117."""
    assert run("db", "upgrade", **ground) == "The ledger is up to date.\n"
    said = run("doctor", **ground, STRIPE_API_KEY=KEY)
    assert "Report it" not in said
    assert "takes writes" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_web(ground: dict[str, str], workers: str, tmp_path: Path) -> None:
    """OPS-153, fault 117: several processes find no folder for what they count, and serve."""
    port = own_port()
    with running(tmp_path / "log", "web", "--workers", workers, **ground, PORT=str(port)):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "the web is ready", 60)
        assert answers(f"http://127.0.0.1:{port}/v1/plans")


def test_worker_and_beat(ground: dict[str, str], tmp_path: Path) -> None:
    """OPS-153, fault 117: a worker does the beat's work."""
    log = tmp_path / "worker"
    with (
        running(log, "worker", "--alive-file", "/tmp/alive", **ground, STRIPE_API_KEY=KEY),
        running(tmp_path / "beat", "beat", "--alive-file", "/tmp/alive", **ground),
    ):
        wait_until(lambda: '"sweep.finished"' in log.read_text("utf-8"), "a sweep is worked", 60)
