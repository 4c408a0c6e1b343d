"""The command line: reads, the import, the doctor, and how a command ends that cannot go on."""

import json
import os
import socket
from pathlib import Path

import pytest

from billing.database import Database
from billing.doctor.given import examine_key
from billing.operators.lookup import customer_problem
from billing.process.settings import load_settings
from tests.support.ports import own_port
from tests.support.running_dev import onelane


def problem(folder: Path, user_id: str, customer_id: str) -> str | None:
    ledger = Database(f"sqlite:///{folder}/var/ledger.sqlite3")
    try:
        return customer_problem(user_id, customer_id, database=ledger)
    finally:
        ledger.close()


def test_version_is_the_projects(tmp_path: Path) -> None:
    shown = onelane("--version", folder=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, "onelane 0.1.0\n")


@pytest.mark.parametrize(
    "words", [["nonsense"], ["events", "list", "--limit", "0"], ["worker", "--queues", "nonsense"]]
)
def test_wrong_command_line_ends_with_2(words: list[str], tmp_path: Path) -> None:
    ended = onelane(*words, folder=tmp_path, DATABASE_URL="sqlite://", STRIPE_API_KEY="sk_test_x")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        (["web"], "PORT", "http"),
        (["worker"], "REDIS_URL_FILE", "/nowhere"),
        (["db", "upgrade"], "DATABASE_URL", "mysql://host/name"),
        (["dev"], "CHECKOUT_WAIT_SECONDS", "1000"),
        (["web"], "CATALOG", "nowhere.toml"),
    ],
)
def test_wrong_setting_ends_with_78_and_one_line(words: list[str], setting: str, value: str, tmp_path: Path) -> None:
    """OPS-1"""
    ended = onelane(*words, folder=tmp_path, **{setting: value})
    assert ended.returncode == 78, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert setting in ended.stderr


def test_ledger_that_does_not_answer_ends_with_69_and_one_line(tmp_path: Path) -> None:
    """OPS-5"""
    ended = onelane("events", "list", folder=tmp_path, DATABASE_URL=f"postgresql://x@127.0.0.1:{own_port()}/x")
    assert ended.returncode == 69, ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_worker_without_a_key_or_tables_says_what_to_do(tmp_path: Path, folder: Path) -> None:
    """OPS-1"""
    keyless = onelane("worker", folder=folder)
    assert (keyless.returncode, "STRIPE_API_KEY" in keyless.stderr) == (78, True)
    empty = onelane("worker", folder=folder, STRIPE_API_KEY="sk_test_x", DATABASE_URL=f"sqlite:///{tmp_path}/empty")
    assert (empty.returncode, "onelane db upgrade" in empty.stderr) == (78, True)


def test_doctor_finds_what_is_wrong_and_what_does_not_answer(folder: Path) -> None:
    """OPS-23"""
    nobody = f"redis://127.0.0.1:{own_port()}/0"
    wrong = onelane("doctor", "--json", folder=folder, REDIS_URL=nobody)
    assert wrong.returncode == 78
    verdicts = {(finding["subject"], finding["verdict"]) for finding in json.loads(wrong.stdout)}
    assert {("settings", "wrong"), ("ledger", "ok"), ("redis", "unavailable"), ("catalog", "ok")} <= verdicts
    given = {
        "STRIPE_API_KEY": "sk_test_x",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRETS": "whsec_of_the_tests",
        "AUTH_API_KEYS": "a-server-key-of-the-tests",
        "REDIRECT_ORIGINS": "https://app.example.com",
    }
    silent = onelane("doctor", folder=folder, REDIS_URL=nobody, **given)
    assert silent.returncode == 69, silent.stdout + silent.stderr
    assert "does not answer" in silent.stdout
    cluster = onelane("doctor", folder=folder, REDIS_URL="rediss+cluster://127.0.0.1:1/0", **given)
    assert (cluster.returncode, cluster.stderr) == (78, "")
    assert "cluster" in cluster.stdout


@pytest.mark.parametrize(
    ("key", "livemode", "verdict", "word"),
    [
        ("sk_" + "live_x", "true", "warning", "rk_live_"),
        ("rk_" + "live_x", "false", "wrong", "STRIPE_LIVEMODE"),
        ("sk_" + "test_x", "true", "wrong", "STRIPE_LIVEMODE"),
        ("rk_" + "live_x", "true", None, ""),
        ("rk_" + "test_x", "false", None, ""),
    ],
)
def test_doctor_looks_at_the_kind_and_mode_of_the_key(key: str, livemode: str, verdict: str | None, word: str) -> None:
    """OPS-23"""
    settings = load_settings(stripe_api_key=key, stripe_livemode=livemode, _env_file=None)
    found = [(finding.verdict, finding.sentence) for finding in examine_key(settings)]
    assert [given for given, _ in found] == ([verdict] if verdict else [])
    assert all(word in sentence and key not in sentence for _, sentence in found)


def test_import_reports_bad_rows_by_line_and_imports_the_others(folder: Path) -> None:
    """OPS-22"""
    file = folder / "customers.csv"
    file.write_text(
        '\ufeffuser_id,customer_id,note\nann,cus_1,x\nbob,1_cus,x\n,cus_2,x\ncid,cus_1,x\n"d\nan",cus_3,x\neve,cus_4,x\nf\ufffd,cus_5,x\n',
        "utf-8",
    )
    tried = onelane("customers", "import", str(file), "--dry-run", folder=folder)
    assert "2 of 7 rows would be imported" in tried.stdout
    assert problem(folder, "ann", "cus_9") is None, "a dry run changes nothing"

    done = onelane("customers", "import", str(file), "--reason", "moving in", "--yes", folder=folder)
    assert done.returncode == 1
    assert "2 of 7 rows were imported" in done.stdout
    assert [line.split(":")[0] for line in done.stderr.splitlines()][:-1] == [
        "line 3",
        "line 4",
        "line 5",
        "line 7",
        "line 9",
    ]
    assert json.loads(done.stderr.splitlines()[-1])["reason"] == "moving in"
    assert problem(folder, "ann", "cus_9") is not None
    assert problem(folder, "eve", "cus_4") is None

    again = onelane("customers", "import", str(file), "--reason", "again", "--yes", folder=folder)
    assert "2 of 7 rows were imported" in again.stdout, "importing again changes nothing"
    file.write_text("user_id,customer_id\nann,cus_7\nzoe,cus_4\n", "utf-8")
    taken = onelane("customers", "import", str(file), "--dry-run", folder=folder)
    assert "0 of 2 rows would be imported" in taken.stdout


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("user_id,customer_id\nann,cus_1\n", ["--yes"]),
        ("user_id,customer_id\nann,cus_1\n", ["--reason", "x"]),
        ("user,customer\nann,cus_1\n", ["--dry-run"]),
        ("", ["--dry-run"]),
    ],
    ids=["no reason", "nobody to ask", "other columns", "empty"],
)
def test_import_that_is_not_clear_is_not_begun(text: str, options: list[str], folder: Path) -> None:
    (folder / "customers.csv").write_text(text, "utf-8")
    ended = onelane("customers", "import", "customers.csv", *options, folder=folder)
    assert ended.returncode == 2, ended.stderr
    assert problem(folder, "ann", "cus_9") is None


def test_reads_speak_to_programs_and_people(folder: Path) -> None:
    assert json.loads(onelane("events", "list", "--json", folder=folder).stdout) == []
    assert onelane("events", "list", folder=folder).stdout == "No events.\n"
    assert json.loads(onelane("incidents", "list", "--json", folder=folder).stdout) == []
    missing = onelane("checkouts", "show", "chk_nowhere", folder=folder)
    assert missing.returncode == 1
    assert len(missing.stderr.splitlines()) == 1


def test_openapi_needs_no_server(folder: Path) -> None:
    document = json.loads(onelane("openapi", folder=folder).stdout)
    assert document["openapi"].startswith("3.1")
    assert "/v1/checkouts" in document["paths"]


def test_web_says_who_has_its_port(folder: Path) -> None:
    """OPS-7"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = onelane("web", folder=folder, PORT=port)
    assert ended.returncode == 78
    assert f"PORT {port} is taken" in ended.stderr
    if Path("/proc/net/tcp").exists():
        assert f"(process {os.getpid()})" in ended.stderr
