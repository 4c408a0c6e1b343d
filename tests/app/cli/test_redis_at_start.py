"""A Redis that will not do, however long it is waited for, stops every process that uses it, in one line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kills.proxy import Proxy
from tests.support.redis_server import PASSWORD, Server, running
from tests.support.running_dev import ROOT, onelane

COMMANDS = pytest.mark.parametrize("command", ["web", "worker", "beat", "doctor"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    user = f"user whole on >{PASSWORD} ~onelane:* +@all"
    with running(made := Server("redis-server", tmp_path_factory.mktemp("redis") / "server", user)):
        yield made


@pytest.fixture(scope="module")
def old(server: Server) -> Iterator[Proxy]:
    """The same server, which says that it is of version 6.0."""
    with server.client() as client:
        version = client.info("server")["redis_version"].encode()
    proxy = Proxy(server.port)
    proxy.rewrite = (b"redis_version:" + version, b"redis_version:" + b"6.0.9".ljust(len(version), b"0"))
    yield proxy
    proxy.close()


def stopped(command: str, folder: Path, url: str, **settings: str) -> str:
    """The one line with which it ended."""
    (folder / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    known = {"STRIPE_API_KEY": "sk_test_nobody", "STRIPE_API_BASE": "http://127.0.0.1:1", "ONELANE_LOG": "json"}
    done = onelane(command, folder=folder, REDIS_URL=url, **known, **settings)
    assert done.returncode == 78, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    if command == "doctor":
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("wrong        redis ")]
        return line.removeprefix("wrong        redis ").strip()
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("onelane: ").strip()


@COMMANDS
def test_server_that_is_too_old_is_named(command: str, old: Proxy, tmp_path: Path) -> None:
    """OPS-126, fault 115."""
    said = stopped(command, tmp_path, f"redis://127.0.0.1:{old.port}/0")
    assert said.startswith("REDIS_URL answers, version 6.0.9")
    assert said.endswith("too old. Use Redis 6.2 or newer, or any Valkey.")


@COMMANDS
def test_login_that_is_refused_is_called_so(command: str, server: Server, tmp_path: Path) -> None:
    """OPS-127, fault 113."""
    said = stopped(command, tmp_path, f"redis://whole:no{PASSWORD[::-1]}@127.0.0.1:{server.port}/0")
    assert said == "REDIS_URL: the server refuses the user or password. Set REDIS_URL with the right ones."
