"""`onelane doctor` as a command: its exit codes, its JSON, and the port of the web."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.doctor import doctor
from billing.process.settings import Settings
from tests.support.ports import own_port
from tests.support.running_dev import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a catalog, without the settings of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PORT", str(own_port()))
    return tmp_path


@pytest.fixture(scope="module")
def key_set() -> Iterator[str]:
    """An identity provider whose key set is empty."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": []}).encode())

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()
        thread.join()


def asked(*words: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(doctor, words)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("PORT", "http", 78),
        ("DATABASE_URL", "mysql://host/name", 78),
        ("DATABASE_URL", "sqlite:////proc/no/such/folder", 78),
        ("STRIPE_API_KEY_FILE", "/nowhere", 78),
        ("CATALOG", "nowhere.toml", 78),
        ("REDIS_URL", "nonsense", 78),
        ("REDIS_URL", "redis+cluster://127.0.0.1:1/0", 78),
        ("CELERY_BROKER_URL", "nonsense://", 78),
        ("APP_HANDLERS", "no_such_module", 78),
    ],
)
def test_json_is_json_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: int) -> None:
    """OPS-95, OPS-23"""
    monkeypatch.setenv(name, value)
    answer = asked("--json")
    assert answer.exit_code == code, answer.output
    findings = json.loads(answer.stdout)
    assert {tuple(finding) for finding in findings} == {("subject", "verdict", "sentence")}
    assert any(name in finding["sentence"] and finding["verdict"] == "wrong" for finding in findings), findings


def test_port_of_another_program_is_named_with_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-93, OPS-7: the web would not start."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0)  # it never answers
        port = other.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        monkeypatch.setattr("app.cli.web_checks.ANSWER_SECONDS", 0.1)
        [finding] = [one for one in json.loads(asked("--json").stdout) if one["subject"] == "web"]
    assert finding["verdict"] == "wrong"
    assert f"PORT {port} is taken by" in finding["sentence"]


def test_identity_provider_is_asked_for_its_keys(monkeypatch: pytest.MonkeyPatch, key_set: str) -> None:
    """OPS-93"""
    monkeypatch.setenv("AUTH_ISSUER", "https://id.example")
    found = []
    for url in (key_set, "http://127.0.0.1:1/keys"):
        monkeypatch.setenv("AUTH_JWKS_URL", url)
        found += [one for one in json.loads(asked("--json").stdout) if one["subject"] == "identity"]
    assert [finding["verdict"] for finding in found] == ["wrong", "unavailable"]
    assert "AUTH_JWKS_URL has no key that may sign" in found[0]["sentence"]
    assert "AUTH_JWKS_URL does not answer" in found[1]["sentence"]
    assert all("jwks_uri" in finding["sentence"] for finding in found), "the fix"


def test_misspelt_name_in_dotenv_is_named(folder: Path) -> None:
    """OPS-94"""
    (folder / ".env").write_text("STRIPE_WEBHOOK_SECRET=whsec_x\nPOSTGRES_PASSWORD=x\n", "utf-8")
    said = " ".join(asked().stdout.split())
    assert "STRIPE_WEBHOOK_SECRET is read by nobody. Did you mean STRIPE_WEBHOOK_SECRETS? Rename it." in said
    assert "POSTGRES_PASSWORD" not in said


def test_file_of_settings_that_cannot_be_read_is_a_finding(folder: Path) -> None:
    """OPS-95: an editor wrote it in UTF-16."""
    (folder / ".env").write_bytes("PORT=8000\n".encode("utf-16"))
    ended = asked("--json", "--read-only")
    assert (ended.exit_code, json.loads(ended.stdout)[0]["verdict"]) == (78, "wrong")
    assert ".env is not in UTF-8" in json.loads(ended.stdout)[0]["sentence"]
