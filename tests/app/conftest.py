"""The web as its tests see it: a real ledger, the sandbox in process, and workers that a test sets to work."""

import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app import create_app, webhooks
from app.limits.waiters import Semaphore
from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.process.settings import Settings, load_settings
from billing.services import Services
from tests.support.builders import SECRET
from tests.support.checkout_world import World
from tests.support.databases import sqlite_in
from tests.support.web import API_KEYS, JWT_SECRET, ORIGIN, Web
from tests.support.web_rights import hold_requests_to_rights

MakeApp = Callable[..., Flask]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite ledger: what the web does with it is the same on PostgreSQL, where it has a role (OPS-152)."""
    with sqlite_in(tmp_path) as database:
        hold_requests_to_rights(database)
        yield database


@pytest.fixture
def world(ledger: Database) -> World:
    """Stripe and the workers."""
    return World(ledger)


def build_settings(**instead: Any) -> Settings:
    """Settings of these tests, whatever this machine's environment says."""
    given: dict[str, Any] = {
        "auth_jwt_secret": JWT_SECRET,
        "auth_api_keys": ",".join(API_KEYS),
        "redirect_origins": ORIGIN,
        "checkout_wait_seconds": 0,
        "rate_limit_checkouts": "1000/minute",
        "rate_limit_different_checkouts": "1000/minute",
        "rate_limit_reads": "1000/minute",
        "rate_limit_addresses": "100000/minute",
        "stripe_webhook_secrets": SECRET,
        "_env_file": None,
    }
    return load_settings(**given | instead)


@pytest.fixture
def make_app(world: World) -> Iterator[MakeApp]:
    """Build the application over this world, with other settings or services where a test says so.

    Its threads end with the test. One that is left and logs while pytest takes the output of another test away can
    crash Python 3.11.
    """
    made: list[Flask] = []

    def make(
        *,
        services: dict[str, Any] | None = None,
        shop: bool = False,
        waiters: Semaphore | None = None,
        limits: str | None = None,  # a Redis to count in
        **settings: Any,
    ) -> Flask:
        chosen = build_settings(**settings)
        collaborators: dict[str, Any] = {
            "settings": chosen,
            "catalog": world.catalog,
            "database": world.database,
            "queue": world.queue,
            "wakeups": world.wakeups,
            "locks": world.locks,
            "stripe": None,
            "clock": world.clock,
            "redis": connect_redis(limits) if limits else None,
        }
        app = create_app(
            chosen,
            Services(**collaborators | (services or {})),
            shop=shop,
            waiters=waiters,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions[webhooks.EXTENSION].close()


@pytest.fixture
def web(make_app: MakeApp) -> Web:
    """The application as it is by default."""
    return Web(make_app())


@pytest.fixture
def served(make_app: MakeApp, world: World) -> Web:
    """The same with workers that are done before the request looks: a checkout is answered at once."""
    return Web(make_app(services={"queue": AtOnce(world)}))


class AtOnce:
    """A queue whose jobs are worked while they are sent."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, job: Any, *, delay_seconds: float = 0) -> bool:
        self._world.queue.send(job)
        contextvars.Context().run(self._world.work)  # outside of the request
        return True

    def taken(self, job: Any) -> None:
        pass

    def trouble(self) -> None:
        return None
