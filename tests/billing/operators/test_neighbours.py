"""Two installations on one Redis: by their ledgers they notice each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from billing.database import Database
from billing.doctor.finding import Verdict
from billing.doctor.redis import examine_neighbours
from billing.operators.neighbours import THERE_SECONDS, Neighbours, mark_of
from billing.operators.presence import Heartbeat
from billing.process.settings import Settings
from tests.support.databases import sqlite_in
from tests.support.valkey import Valkey, wait_until


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest, database: Database) -> Iterator[Database]:
    """Another ledger of the same kind."""
    if database.is_sqlite:
        (tmp_path / "other").mkdir()
        with sqlite_in(tmp_path / "other") as ledger:
            yield ledger
    else:
        with request.getfixturevalue("postgres").fresh() as ledger:
            yield ledger


def said(neighbours: Neighbours) -> list[str]:
    """What is logged when these note themselves."""
    with capture_logs() as lines:
        neighbours.note()
    return [line["event"] for line in lines]


def found(database: Database, valkey: Valkey, prefix: str = "onelane:") -> list[Verdict]:
    """What doctor says."""
    settings = Settings(redis_url=valkey.url, redis_key_prefix=prefix, _env_file=None)
    findings = list(examine_neighbours(settings, database))
    assert all("Set REDIS_KEY_PREFIX" in finding.sentence for finding in findings)
    return [finding.verdict for finding in findings]


def test_two_ledgers_with_the_same_keys_notice_each_other(
    database: Database, other: Database, client: "redis.Redis", valkey: Valkey
) -> None:
    """OPS-125, fault 114: whoever comes first; each says so once, and doctor of both."""
    mine = Neighbours(client, database, prefix="onelane:")
    theirs = Neighbours(client, other, prefix="onelane:")
    assert said(mine) == []
    assert found(database, valkey) == []
    assert said(theirs) == ["redis.shared"]
    assert said(mine) == ["redis.shared"]
    assert said(mine) == said(theirs) == []
    assert found(database, valkey) == found(other, valkey) == [Verdict.WRONG]
    assert 0 < client.ttl("onelane:ledgers") <= THERE_SECONDS, "nothing of it stays"


def test_processes_of_one_ledger_are_no_neighbours(database: Database, client: "redis.Redis", valkey: Valkey) -> None:
    """OPS-125"""
    again = Database(database.url.render_as_string(hide_password=False))
    assert mark_of(again) == mark_of(database)
    assert said(Neighbours(client, database, prefix="onelane:")) == []
    assert said(Neighbours(client, again, prefix="onelane:")) == []
    assert found(again, valkey) == []
    again.close()


def test_another_prefix_parts_them(database: Database, other: Database, client: "redis.Redis", valkey: Valkey) -> None:
    """OPS-125, OPS-122"""
    Neighbours(client, database, prefix="onelane:").note()
    assert said(Neighbours(client, other, prefix="two:")) == []
    assert found(other, valkey, "two:") == found(database, valkey) == []


def test_ledger_that_was_left_is_forgotten(
    database: Database, other: Database, client: "redis.Redis", valkey: Valkey
) -> None:
    """OPS-125: an installation that moved to another database waits for nothing."""
    long_ago = int(client.time()[0]) - THERE_SECONDS - 1
    client.zadd("onelane:ledgers", {mark_of(other): long_ago})
    assert found(database, valkey) == []
    assert said(Neighbours(client, database, prefix="onelane:")) == []
    assert client.zcard("onelane:ledgers") == 1


def test_redis_that_is_away_is_no_trouble(database: Database) -> None:
    """OPS-125"""
    gone = redis.Redis.from_url("redis://127.0.0.1:1/0")
    assert said(Neighbours(gone, database, prefix="onelane:")) == []


def test_process_looks_around_as_long_as_it_lives(
    database: Database, other: Database, client: "redis.Redis", valkey: Valkey
) -> None:
    """OPS-125: the thread that writes its row does so."""
    beat = Heartbeat(database, kind="web", neighbours=Neighbours(client, database, prefix="onelane:")).start()
    wait_until(lambda: bool(client.zcard("onelane:ledgers")), "it noted its ledger")
    assert found(other, valkey) == [Verdict.WRONG]
    beat.stop()
