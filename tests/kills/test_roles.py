"""The roles of `deploy/postgres`: web, workers and migration on a real PostgreSQL, each with its own.

The scripts run as the compose file runs them: `roles.sql` by a superuser in an empty database, `grants.sql` by the role
that migrated it.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.catalog import AccessRules
from billing.clock import SystemClock
from billing.database import Database
from billing.doctor import examinations
from billing.models import events, incidents, metadata
from billing.operators.incident import resolve_incident
from billing.subscriptions.queries import read_subscription
from billing.subscriptions.troubles import DUPLICATE
from tests.kills.asking import Answer, ask
from tests.kills.subscribers import Subscribers
from tests.kills.world import END_SECONDS, World, running_world
from tests.support.builders import CATALOG
from tests.support.databases import postgres_server
from tests.support.running_dev import ROOT, environment, onelane
from tests.support.valkey import wait_until
from tests.support.web_rights import rights

pytestmark = pytest.mark.timeout(300)
SCRIPTS = ROOT / "deploy" / "postgres"
PASSWORDS = {f"{role.upper()}_DATABASE_PASSWORD": f"of-{role}" for role in ("migrate", "web", "worker")}


class Roles:
    """An empty database `onelane`, which the three roles may use."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        self._psql("postgres", "-c", "CREATE DATABASE onelane")
        self._psql("postgres", "--file", str(SCRIPTS / "roles.sql"))
        done = onelane("db", "upgrade", folder=Path(server.pgdata).parent, DATABASE_URL=self.url("migrate"))
        assert done.returncode == 0, done.stderr
        self._psql("onelane_migrate", "--file", str(SCRIPTS / "grants.sql"))

    def url(self, role: str) -> str:
        """DATABASE_URL of this role's processes."""
        url = self._url.set(username=f"onelane_{role}", password=f"of-{role}", database="onelane")
        return url.render_as_string(hide_password=False)

    def as_role(self, role: str) -> Database:
        return Database(self.url(role))

    def _psql(self, user: str, *arguments: str) -> None:
        database = "postgres" if "-c" in arguments else "onelane"
        command = [str(self._server.bin_path / "psql"), "-h", str(self._server.pgdata), "-U", user, "-d", database]
        given = environment(**PASSWORDS)
        done = subprocess.run([*command, "--no-psqlrc", *arguments], env=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def roles() -> Iterator[Roles]:
    with postgres_server() as server:
        yield Roles(server)


REFUSED = {
    "web": (
        "UPDATE subscriptions SET status = 'active'",
        "UPDATE projections SET generation = 0",
        "INSERT INTO repayments DEFAULT VALUES",
        "DELETE FROM events",
        "DELETE FROM checkouts",
        "UPDATE product_trials SET ends_at = now()",
        "UPDATE remedies SET subscription_id = 'sub_of_another'",
        "CREATE TABLE mine (id int)",
        "DROP TABLE events",
        "UPDATE alembic_version SET version_num = '0001'",
    ),
    "worker": (
        "CREATE TABLE mine (id int)",
        "DROP TABLE events",
        "ALTER TABLE events ADD mine int",
        "UPDATE alembic_version SET version_num = '0001'",
        "CREATE ROLE mine",
    ),
    "migrate": ("CREATE ROLE mine", "CREATE SCHEMA mine", "ALTER ROLE onelane_web SUPERUSER"),
}


@pytest.mark.parametrize(("role", "statement"), [(role, one) for role, many in REFUSED.items() for one in many])
def test_role_may_do_no_more_than_its_processes_do(roles: Roles, role: str, statement: str) -> None:
    """OPS-152, fault 116."""
    database = roles.as_role(role)
    with pytest.raises(sa.exc.ProgrammingError) as refused, database.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert refused.value.orig is not None
    assert refused.value.orig.sqlstate == "42501"  # type: ignore[attr-defined]
    database.close()


ALL = {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_each_table_is_given_to_workers_and_web_as_it_is_meant(roles: Roles) -> None:
    """OPS-152: also one that a later migration adds."""
    query = sa.text("SELECT has_table_privilege(:role, :table, :what)")
    database = roles.as_role("migrate")
    with database.read() as connection:

        def may(role: str, table: str) -> set[str]:
            asked = {"role": f"onelane_{role}", "table": table}
            return {what for what in ALL if connection.scalar(query, {**asked, "what": what})}

        found = {table: (may("web", table), may("worker", table)) for table in metadata.tables}
    database.close()
    assert {table: web for table, (web, _) in found.items()} == {table: {"SELECT"} | rights(table) for table in found}
    assert all(worker == ALL for _, worker in found.values())


def test_what_the_web_does_beside_buyers_and_deliveries_is_allowed_to_its_role(roles: Roles) -> None:
    """OPS-152, fault 116: a first look that begins a trial, and what an operator's console does.

    Every other statement of a request is held against the rights in the web's own tests.
    """
    database, clock = roles.as_role("web"), SystemClock()
    catalog = CATALOG.model_copy(update={"access": AccessRules(product_trial_days=7)})
    shown = read_subscription("new", database=database, catalog=catalog, clock=clock)
    assert shown["access"]["reason"] == "product_trial"
    row_id = examinations.ask(database=database, clock=clock)
    with database.write() as connection:
        values = {"customer_id": "cus_1", "product": "p", "kind": DUPLICATE, "detail": {}, "opened_at": clock.now()}
        incident_id = connection.execute(sa.insert(incidents).values(values).returning(incidents.c.id)).scalar_one()
    resolve_incident(incident_id, reason="by hand", database=database, clock=clock)
    database.close()
    assert row_id


def test_everything_works_with_the_roles_that_the_compose_file_gives(
    roles: Roles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """OPS-152, fault 116: every route, deliveries, maintenance and the operator's commands; nothing is denied."""
    database, folder = roles.as_role("worker"), tmp_path_factory.mktemp("roles")
    web = {"DATABASE_URL": roles.url("web")}
    with running_world(
        folder, database=database, workers=2, sweep_seconds=1, web=web, DATABASE_URL=roles.url("worker")
    ) as world:
        buyers = Subscribers(world)
        world.at_rest("ann", world.buy("ann")["url"], creates=1)
        (customer,) = buyers.some(1)
        assert call(world, "PUT", "/v1/customers/bob", {"customer_id": customer}).status in (200, 201, 202)
        wait_until(lambda: has_access(world, "bob"), "bob has access", END_SECONDS)
        for kind in ("cancel", "reactivate"):
            assert call(world, "POST", f"/v1/subscription/{kind}", {"user_id": "bob"}).status in (200, 202)
        event_id = buyers.change(customer)
        wait_until(lambda: status_of(world, event_id) == "done", "the change is worked", END_SECONDS)
        for path in ("/v1/plans", "/v1/subscription?user_id=ann", "/readyz"):
            assert call(world, "GET", path).status == 200, path
        settings = {"DATABASE_URL": roles.url("worker"), "REDIS_URL": world.valkey.url}
        stripe = {"STRIPE_API_KEY": "sk_test_of_the_kills", "STRIPE_API_BASE": f"http://127.0.0.1:{world.proxy.port}"}
        for command in COMMANDS:
            done = onelane(*command, folder=folder, CATALOG=str(ROOT / "catalog.toml"), **settings, **stripe)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    database.close()
    logs = "".join(path.read_text("utf-8") for path in [*folder.glob("*.log"), *folder.glob("logs/*")])
    assert "privilege" not in logs
    assert "permission denied" not in logs


COMMANDS = (
    ["report"],
    ["events", "list"],
    ["events", "replay", "--type", "customer.subscription.updated", "--reason", "a test", "--yes"],
    ["checkouts", "list"],
    ["customers", "show", "bob"],
    ["reconcile", "--full"],
    ["notifications", "list"],
    ["audit", "list"],
    ["customers", "erase", "ann", "--reason", "a test", "--yes"],
)


def call(world: World, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    return ask(f"http://127.0.0.1:{world.front.port}{path}", method, body, Prefer="wait=10")


def status_of(world: World, event_id: str) -> str | None:
    with world.database.read() as connection:
        return connection.scalar(sa.select(events.c.status).where(events.c.event_id == event_id))


def has_access(world: World, user_id: str) -> bool:
    return bool(call(world, "GET", f"/v1/subscription?user_id={user_id}").body["access"]["granted"])
