"""What production is made of: image, compose file, package, Makefile. Without a Docker engine."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from app.cli import COMMANDS, main
from app.dev.settings import sandbox_seed
from billing.catalog import load_catalog
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.house.test_house import committed_files
from tests.support.redis_server import Server, require, running
from tests.support.valkey import wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "onelane:local"}


def test_compose_file_is_one_by_its_own_schema() -> None:
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_has_the_services_that_were_promised() -> None:
    assert {"redis", "postgres", "web", "worker", "beat"} <= set(COMPOSE["services"])
    assert COMPOSE["services"]["sandbox"]["profiles"] == ["sandbox"]
    assert [name for name, service in COMPOSE["services"].items() if "profiles" in service] == ["sandbox"]


def parse_command(name: str, args: list[Any]) -> None:
    """Parse the words and options by the command itself."""
    words = [str(word) for word in args]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, args
        command = found
    # Paths inside the image do not exist here.
    words = [word for word in words if not word.startswith("--seed=")]
    command.make_context(name, words)


@pytest.mark.parametrize("name", OURS)
def test_compose_command_is_one_that_the_command_line_takes(name: str) -> None:
    """OPS-20: the words and options parse, by the command itself."""
    parse_command(name, OURS[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_own_service_stops_gracefully_and_says_whether_it_is_well(name: str) -> None:
    service = OURS[name]
    assert service["stop_grace_period"] == "75s"
    assert "healthcheck" in service
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_has_limits_and_no_rights_that_it_does_not_need(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["init"] is True
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 16 <= service["pids_limit"] <= 1024
    assert service["ulimits"]["nofile"]["hard"] >= 16384
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"}
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_image_is_built_once() -> None:
    """OPS-20: two builds of one name at once end with "already exists", on a machine that has no such image yet."""
    assert [name for name, service in COMPOSE["services"].items() if "build" in service] == ["migrate"]


# What `init` does in a container whose server became another user: it passes the signal on.
PASS_ON = """
import pathlib, signal, subprocess, sys
server = subprocess.Popen(["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "sleep", "60"])
while "54321" not in pathlib.Path(f"/proc/{server.pid}/status").read_text():
    pass
server.send_signal(signal.SIGTERM)
sys.exit(server.wait() != -signal.SIGTERM)
"""


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_server_that_changed_its_user_hears_the_signal_to_stop(name: str) -> None:
    """OPS-20: else it is killed at every stop, and at every update of its image."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("to become another user takes root's rights and setpriv")
    rights = ",".join(f"+{right.lower()}" for right in COMPOSE["services"][name]["cap_add"])
    command = ["setpriv", f"--bounding-set=-all,{rights}", sys.executable, "-I", "-c", PASS_ON]
    done = subprocess.run(launched(command), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_each_process_has_the_database_role_of_its_kind() -> None:
    """OPS-152"""
    urls = {name: service.get("environment", {}).get("DATABASE_URL", "") for name, service in OURS.items()}
    found = {name: re.match(r"postgresql://(\w+):\$\{(\w+):\?", url) for name, url in urls.items()}
    assert {name: match.groups() for name, match in found.items() if match} == {
        "migrate": ("onelane_migrate", "MIGRATE_DATABASE_PASSWORD"),
        "web": ("onelane_web", "WEB_DATABASE_PASSWORD"),
        "worker-checkout": ("onelane_worker", "WORKER_DATABASE_PASSWORD"),
        "worker": ("onelane_worker", "WORKER_DATABASE_PASSWORD"),
        "beat": ("onelane_worker", "WORKER_DATABASE_PASSWORD"),
    }
    for name in ("web", "worker-checkout", "worker", "beat"):
        assert "grants" in OURS[name]["depends_on"], name


def test_health_check_of_redis_fails_while_it_loads(tmp_path: Path) -> None:
    """Fault 118: it answers then, with an error that its own program ends with 0 for."""
    program = shutil.which("valkey-cli") or require("redis-cli")
    kind, check = COMPOSE["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"

    def is_healthy(server: Server) -> bool:
        command = check.replace("valkey-cli", f"{program} -p {server.port}")
        return subprocess.run(["sh", "-c", command], capture_output=True).returncode == 0

    with running(made := Server("redis-server", tmp_path, "rdbcompression no")), made.client() as client:
        client.mset({f"key-{number}": "x" * 2000 for number in range(1000)})
        client.save()
    slow = Server("redis-server", tmp_path, "key-load-delay 50000", "loading-process-events-interval-bytes 1024")
    with running(slow), slow.client() as client:
        assert not is_healthy(slow)
        client.config_set("key-load-delay", 0)
        wait_until(lambda: is_healthy(slow), "it has loaded")
        assert client.dbsize() == 1000


def test_settings_of_the_compose_file_exist() -> None:
    known = {name.upper() for name in Settings.model_fields} | {"SANDBOX_WEBHOOK_SECRET"}
    for name, service in OURS.items():
        assert set(service.get("environment", {})) <= known, name


def test_only_workers_get_a_stripe_key_in_production() -> None:
    """OPS-15"""
    holding = {name for name, service in OURS.items() if "STRIPE_API_KEY" in service.get("environment", {})}
    assert holding == {"worker", "worker-checkout"}


def test_secrets_come_from_outside_and_missing_ones_say_so() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    roles = [f"{role}_DATABASE_PASSWORD" for role in ("MIGRATE", "WEB", "WORKER")]
    for name in ("POSTGRES_PASSWORD", *roles, "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRETS", "REDIRECT_ORIGINS"):
        assert re.search(rf"\$\{{{name}:\?set {name}", text), name
    assert not re.search(r"(sk|rk)_(test|live)_(?!anything)\w|whsec_\w", text)


def consumed(commands: Iterable[list[str]]) -> list[str]:
    """The queues that these commands name, each as often as it is named."""
    return [
        queue
        for words in commands
        for word, value in pairwise(words)
        if word == "--queues"
        for queue in value.split(",")
    ]


def test_queues_of_the_workers_are_all_queues_and_each_once() -> None:
    from billing.coordination.jobs import QUEUES

    assert sorted(consumed(service["command"] for service in OURS.values())) == sorted(QUEUES)


def test_redis_never_evicts_and_keeps_a_log() -> None:
    command = " ".join(COMPOSE["services"]["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_images_are_pinned_by_version_and_digest() -> None:
    froms = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    others = [service["image"] for name, service in COMPOSE["services"].items() if name not in OURS]
    for image in [*froms, *others]:
        assert re.search(r":(\d+\.\d+\.\d+|17\.\d+)-[a-z-]+@sha256:[0-9a-f]{64}$", image), image


def test_image_copies_only_what_it_needs_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert {word for words in copied for word in words.split()} == allowed
    assert text.index("USER 10001") > text.rindex("FROM")
    assert "--require-hashes" in text
    assert "HEALTHCHECK" in text


def test_seed_of_the_composed_sandbox_is_the_shipped_catalog() -> None:
    kept = json.loads((ROOT / "deploy" / "sandbox-seed.json").read_text("utf-8"))
    assert kept == sandbox_seed(load_catalog(ROOT / "catalog.toml"))


def test_built_package_holds_every_module_template_and_migration(tmp_path: Path) -> None:
    """What the image installs is all there, though it was never run from the source folder."""
    source = tmp_path / "source"
    for path in committed_files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    command = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        tmp_path,
        ".",
    ]
    done = subprocess.run([sys.executable, "-m", *command], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("onelane-*.whl")
    packed = set(zipfile.ZipFile(io.BytesIO(wheel.read_bytes())).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in committed_files()
        if path.relative_to(ROOT).parts[0] in ("app", "billing", "worker", "sandbox", "onelane")
        and path.name != "README"
    }
    assert wanted - packed == set()
    assert not any(name.startswith("tests/") for name in packed)


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    shown = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert f"make {target} " in shown, target


def test_continuous_integration_is_an_executable_script_that_runs_all_of_make_check() -> None:
    script, makefile = ROOT / ".ci" / "run", (ROOT / "Makefile").read_text("utf-8")
    assert script.stat().st_mode & 0o111
    # What tests skip on a laptop that lacks it, and fail without in CI.
    packages = ("chromium", "nginx", "pgbouncer", "rabbitmq-server", "redis-server", "redis-sentinel")
    assert f"for package in {' '.join(packages)}; do" in script.read_text("utf-8")
    assert subprocess.run(["sh", "-n", script]).returncode == 0
    check = re.search(r"^check: ([a-z ]+?) +##", makefile, re.MULTILINE)
    assert check
    ran = re.findall(r"^run (\w+) \1$", script.read_text("utf-8"), re.MULTILINE)
    assert ran == check[1].split() == ["test", "long"]


def test_help_shows_every_command_in_a_line() -> None:
    shown = subprocess.run([sys.executable, "-P", "-m", "onelane", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w", shown.stdout, re.MULTILINE), name
