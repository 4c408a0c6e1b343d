"""Two webs of two processes and four workers, by their defaults, on a PostgreSQL with its default of 100 connections.

Everybody comes at once; then what was opened for the burst is given back.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy as sa

from billing.models import events
from tests.kills.asking import Answer, answers, ask, in_background
from tests.kills.postgres import KillablePostgres
from tests.kills.world import END_SECONDS, SERVER_KEY, SHOP, SIGNING_SECRET, World, running_world
from tests.support.builders import build_event, deliver
from tests.support.ports import own_port
from tests.support.valkey import wait_until

pytestmark = pytest.mark.timeout(300)
BURST = 120  # buyers, and as many deliveries
PROCESSES = 8
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'onelane'"


@pytest.fixture(scope="module")
def world(postgres_of_ours: KillablePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, database = tmp_path_factory.mktemp("budget"), postgres_of_ours.database
    with running_world(folder, database=database, workers=0, sweep_seconds=5) as made:
        yield made


@pytest.fixture(scope="module")
def webs(world: World) -> list[str]:
    """The addresses of both."""
    found = []
    for number in range(2):
        port = own_port()
        own = {"PORT": str(port), "AUTH_API_KEYS": SERVER_KEY, "STRIPE_WEBHOOK_SECRETS": SIGNING_SECRET}
        world.start(f"web-{number}", ["onelane", "web", "--workers", "2"], **own)
        found.append(f"http://127.0.0.1:{port}")
        wait_until(lambda: answers(f"{found[-1]}/readyz"), "the web is ready", END_SECONDS)
    world.web.kill()  # the one that the world began with
    world.web.wait()
    for number in range(4):
        alive = world.folder / f"alive-{number}"
        command = ["onelane", "worker", "--alive-file", str(alive)]
        world.start(f"worker-{number}", command, STRIPE_API_KEY="sk_test_of_the_kills")
        wait_until(alive.exists, "the worker is ready", END_SECONDS)
    return found


def test_burst_is_served_within_the_connections_that_there_are(
    world: World, webs: list[str], postgres_of_ours: KillablePostgres
) -> None:
    """LED-63, LED-79; fault 90: nobody is refused, everybody is served, and the connections are given back."""
    gate = threading.Barrier(2 * BURST)

    def buy(number: int) -> Answer:
        body = {
            "user_id": f"user-{number}",
            "plan": "standard",
            "success_url": f"{SHOP}/ok",
            "cancel_url": f"{SHOP}/no",
        }
        gate.wait(END_SECONDS)
        return ask(f"{webs[number % 2]}/v1/checkouts", "POST", body, Prefer="wait=20")

    def tell(number: int) -> Answer:
        body, signature = deliver(build_event(), secret=SIGNING_SECRET, at=datetime.now(UTC))
        gate.wait(END_SECONDS)
        return ask(f"{webs[number % 2]}/webhooks/stripe", "POST", body, **{"Stripe-Signature": signature})

    coming = [in_background(lambda act=act, one=one: act(one)) for one in range(BURST) for act in (buy, tell)]  # type: ignore[misc]
    found = [ended() for ended in coming]
    assert {one.status for one in found} <= {200, 201, 202}, [one for one in found if one.status > 202][:3]

    pages = [world_answer(webs[number % 2], one, number) for number, one in enumerate(found[::2])]
    assert len(set(pages)) == BURST
    wait_until(lambda: not left(world), "all events are worked", END_SECONDS)
    said = "".join(path.read_text("utf-8", "replace") for path in postgres_of_ours.logs)
    assert "too many clients" not in said
    assert "remaining connection slots" not in said

    wait_until(lambda: count(postgres_of_ours) <= 2 * PROCESSES, "what is not used is given back", 2 * END_SECONDS)
    with ExitStack() as stack:  # so others find room
        for _ in range(100 - 3 - 3 * PROCESSES):
            stack.enter_context(psycopg.connect(postgres_of_ours.plain_url))
        assert all(answers(f"{web}/readyz") for web in webs)


def world_answer(web: str, first: Answer, number: int) -> str:
    """The payment page of a buyer; one who was told to wait looks again."""
    found = [first]

    def there() -> bool:
        if not found[-1].body.get("url"):
            found.append(ask(f"{web}{first.location}?user_id=user-{number}", "GET", None, Prefer="wait=5"))
        return bool(found[-1].body.get("url"))

    wait_until(there, f"user-{number} has a page", END_SECONDS)
    return str(found[-1].body["url"])


def left(world: World) -> int:
    with world.database.read() as connection:
        query = sa.select(sa.func.count()).select_from(events).where(events.c.status == "pending")
        return int(connection.scalar(query) or 0)


def count(server: KillablePostgres) -> int:
    """The connections of our processes, and of this one."""
    with psycopg.connect(server.plain_url) as connection:
        (found,) = connection.execute(OURS).fetchone() or (0,)
        return int(found)
