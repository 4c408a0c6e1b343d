"""Load: a short soak with everything killed in turn, and a burst that comes at once. `make soak` is the long one.

`KILLS=full` takes a minute at 200 events a second, and 10,000 events at once.
"""

from pathlib import Path

import pytest

from tests.kills.postgres import KillablePostgres
from tests.kills.sending import Sending
from tests.kills.soak import soak, until_right
from tests.kills.steps import FULL
from tests.kills.world import running_world
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(("seconds", "rate", "every"), [(60, 200, 5) if FULL else (10, 40, 2)])
def test_nothing_is_lost_while_everything_is_killed_in_turn(
    postgres_of_ours: KillablePostgres, tmp_path: Path, seconds: float, rate: int, every: float
) -> None:
    """WHK-80, WHK-82, WHK-83; fault 1: each event is answered, worked, and in the projection at the end."""
    soaked = soak(
        tmp_path / "world",
        postgres_of_ours,
        seconds=seconds,
        rate=rate,
        customers=60,
        every_seconds=every,
        sweep_seconds=1,
        KILLS_LEASE_SECONDS="5",
    )
    print(soaked)
    assert soaked.wrong is None, soaked
    assert soaked.events > seconds * rate / 2
    assert {"worker", "Valkey", "PostgreSQL"} <= set(soaked.killed)
    assert set(soaked.statuses) <= {0, 200, 503}, "0: killed with the delivery in hand"


def test_burst_is_answered_with_200_or_503_and_every_200_is_in_the_ledger(
    postgres_of_ours: KillablePostgres, tmp_path: Path
) -> None:
    """WHK-80; fault 2."""
    folder, count = tmp_path / "world", 10_000 if FULL else 500
    with running_world(
        folder, database=postgres_of_ours.database, workers=4, sweep_seconds=1, sandbox="tests.kills.changing"
    ) as world:
        (folder / "planned").write_text(f"100 {10**6} {count}", "utf-8")
        (folder / "planned").rename(folder / "plan")
        wait_until((folder / "changed").exists, "the events are made", 120)
        sending = Sending(world.port, folder / "events.jsonl")
        sending.start()
        try:
            wrong, _ = until_right(world, sending, int((folder / "changed").read_text("utf-8")))
        finally:
            sending.stop()
    assert wrong is None
    assert len(sending.ids) >= count
    assert set(sending.statuses) <= {200, 503}, sending.statuses
