"""DATABASE_URL that is wrong, from every command and process: one line, and no secret."""

from pathlib import Path

import pytest

from tests.support.databases import Postgres
from tests.support.ports import own_port
from tests.support.running_dev import onelane

SECRET = "hunter2"
COMMANDS = (
    "db upgrade",
    "doctor",
    "report",
    "locks list",
    "events list",
    "events replays",
    "checkouts list",
    "incidents list",
    "customers erase ann --dry-run",
    "reconcile --dry-run",
    "worker",
    "web",
    "dev",
)


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database that the server does not have."""
    with postgres.fresh() as ledger:
        url = ledger.url.set(drivername="postgresql", database="nowhere", username="postgres", password=SECRET)
        return url.render_as_string(hide_password=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_process_says_why(folder: Path, url: str, command: str) -> None:
    """LED-67, OPS-5, fault 88"""
    given = {"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:1"}
    ended = onelane(*command.split(), folder=folder, PORT=str(own_port()), REDIS_URL="redis://127.0.0.1:1/0", **given)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 78, said
    [line] = [line for line in said.splitlines() if "DATABASE_URL" in line]
    assert "the server has no database nowhere" in line
    assert "Traceback" not in said
    assert SECRET not in said
