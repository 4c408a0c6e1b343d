"""Setup: what the web sees, what a worker found, and the catalog beside Stripe's prices."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.dev.settings import sandbox_seed
from billing.coordination.jobs import Examine
from billing.doctor import examinations
from billing.models import examinations as table
from billing.process.settings import Settings
from billing.services import Services
from tests.app.conftest import build_settings
from tests.app.console.conftest import VIEWER, Browser, text_of
from tests.support.builders import CATALOG
from tests.support.checkout_world import World
from tests.support.in_process import gateway

Answer = Callable[[], None]


@pytest.fixture
def answer(world: World) -> Answer:
    """A worker takes what was asked."""

    def answer() -> None:
        settings: Settings = build_settings(
            database_url=world.database.url.render_as_string(hide_password=False), redis_url="redis://127.0.0.1:9/0"
        )
        collaborators: dict[str, Any] = {"database": world.database, "queue": world.queue, "clock": world.clock}
        collaborators |= {"catalog": world.catalog, "wakeups": world.wakeups, "locks": world.locks}
        services = Services(settings=settings, stripe=gateway(world.sandbox, clock=world.clock), **collaborators)
        for job in [one for one in world.queue.sent if isinstance(one, Examine)]:
            world.queue.sent.remove(job)
            examinations.answer(job.row_id, services)

    return answer


def test_web_says_what_it_sees_itself_and_needs_no_key(console: Browser) -> None:
    """CON-14"""
    text = text_of(console, "/console/setup/web")
    assert "No worker takes the queue checkout" in text
    assert "STRIPE_API_KEY is not set" not in text
    assert "<html" not in text


def test_worker_finds_what_takes_the_key_and_the_page_shows_it(console: Browser, world: World, answer: Answer) -> None:
    """CON-9, CON-11, CON-14"""
    world.sandbox.seed(sandbox_seed(CATALOG))
    before = text_of(console, "/console/setup")
    assert "Nobody has asked one yet" in before
    assert "onelane doctor --read-only</code>" in before
    requests = world.requests()
    pressed = console.post("/console/setup/examine", page="/console/setup")
    assert "A worker was asked" in text_of(console, pressed.headers["Location"])
    assert world.requests() == requests, "the web asks Stripe nothing"
    answer()
    text = text_of(console, "/console/setup")
    assert "A worker was asked" not in text
    assert "no webhook endpoint" in text or "no event arrives" in text
    assert text.count("the same") == len(CATALOG.plans)
    assert "differs" not in text


def test_price_that_differs_or_is_missing_stands_beside_the_catalogs(
    console: Browser, world: World, answer: Answer
) -> None:
    """CON-14"""
    seed = sandbox_seed(CATALOG)
    world.sandbox.seed(seed)
    first = next(iter(CATALOG.plans.values()))
    assert world.sandbox.request("POST", f"/v1/prices/{first.price}", {"active": "false"}).status == 200
    missing = first.model_copy(update={"key": "other", "price": "price_nowhere"})
    world.catalog = CATALOG.model_copy(update={"plans": {**CATALOG.plans, "other": missing}})
    console.post("/console/setup/examine", page="/console/setup")
    answer()
    text = text_of(console, "/console/setup")
    assert text.count("differs") == 2
    assert "archived" in text
    assert "Stripe has no such price" in text


def test_who_asks_twice_is_answered_once(console: Browser, world: World, answer: Answer) -> None:
    """CON-14: also where the message comes twice, or long after a worker was killed."""
    for _ in range(2):
        assert console.post("/console/setup/examine", page="/console/setup").status_code == 303
    assert len([one for one in world.queue.sent if isinstance(one, Examine)]) == 1
    with world.database.write() as connection:
        connection.execute(sa.update(table).values(started_at=world.clock.now()))
    answer()
    assert "and began" in text_of(console, "/console/setup")
    world.clock.advance(minutes=2)
    console.post("/console/setup/examine", page="/console/setup")
    answer()
    assert "A worker was asked" not in text_of(console, "/console/setup")


def test_viewer_asks_nobody(make_console: Any, world: World) -> None:
    """CON-4"""
    viewer = Browser(make_console())
    viewer.log_in(VIEWER)
    assert viewer.post("/console/setup/examine", page="/console/setup").status_code == 403
    assert world.queue.sent == []
