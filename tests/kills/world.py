"""Everything as in production, as processes: web, Celery workers, Valkey, PostgreSQL, and the sandbox behind a proxy.

Workers are told by `arm` where to die; `Buyer` asks over HTTP; `at_rest` is the common end check E of the table of
faults: the checkout is answered, one open session at most, one customer, nothing pending.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import Sweep
from billing.coordination.queue import create_producer
from billing.database import Database
from billing.errors import LedgerUnavailable
from billing.models import attempts, checkouts, customers, lanes
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.bench.storm import Stripe
from tests.kills.asking import SERVER_KEY, Answer, answers, ask
from tests.kills.proxy import Proxy
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment
from tests.support.valkey import Valkey, wait_until

Json = dict[str, Any]
SHOP = "https://app.example.com"
SIGNING_SECRET = "whsec_of_the_kills"
END_SECONDS = 60  # E
LOCK_SECONDS = 5  # the shortest that settings allow


class World:
    """The processes. `workers` of one thread each; the sweep comes every `sweep_seconds`; `web`: its own settings.

    Everybody asks the web through `front`, a proxy as there is one before every web.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: Database,
        workers: int,
        sweep_seconds: float,
        sandbox: str = "sandbox",
        web: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        self.folder, self.database, self.sweep_seconds = folder, database, sweep_seconds
        self._web_settings = web or {}
        for name in ("armed", "tripped", "released", "logs", "alive"):
            (folder / name).mkdir(parents=True)
        self.valkey = Valkey(folder / "valkey")
        sandbox_port, self.port = own_port(), own_port()
        self.proxy, self.front = Proxy(sandbox_port), Proxy(self.port)
        self.stripe = Stripe(f"http://127.0.0.1:{sandbox_port}")
        self._settings = {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": database.url.render_as_string(hide_password=False),
            "REDIS_URL": self.valkey.url,
            "CATALOG": str(ROOT / "catalog.toml"),
            "LOG_LEVEL": "debug",  # tests read what became of each event
            "REDIRECT_ORIGINS": SHOP,
            "RATE_LIMIT_CHECKOUTS": "100000/minute",
            "RATE_LIMIT_DIFFERENT_CHECKOUTS": "100000/minute",
            "RATE_LIMIT_READS": "100000/minute",
            "RATE_LIMIT_ADDRESSES": "1000000/minute",
            "CUSTOMER_LOCK_SECONDS": str(LOCK_SECONDS),
            "STRIPE_TIMEOUT_SECONDS": "3",
            "STRIPE_MAX_PER_SECOND": "10000",
            "KILLS_FOLDER": str(folder),
            "STRIPE_API_BASE": f"http://127.0.0.1:{self.proxy.port}",
            **settings,
        }
        self._running: list[subprocess.Popen[bytes]] = []
        hook = f"http://127.0.0.1:{self.front.port}/webhooks/stripe"
        seed = str(ROOT / "deploy" / "sandbox-seed.json")
        signed = ["--webhook-url", hook, "--webhook-secret", SIGNING_SECRET]
        self.sandbox = self.start("sandbox", [sandbox, "--port", str(sandbox_port), "--seed", seed, *signed])
        self.web = self.start_web()
        wait_until(self._sandbox_answers, "the sandbox is ready", seconds=60)
        self.workers = self.start_workers(workers) if workers else None
        self._ended = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, daemon=True)
        self._sweeper.start()

    # --- what a test does to it

    def start_web(self, *version: str) -> subprocess.Popen[bytes]:
        """Start a web on `port`, of another `version` if that is given, and wait until it is ready."""
        web = {"AUTH_API_KEYS": SERVER_KEY, "STRIPE_WEBHOOK_SECRETS": SIGNING_SECRET, "PORT": str(self.port)}
        web |= self._web_settings
        process = self.start("web", [*version, "tests.kills.web"], **web)
        wait_until(lambda: answers(f"http://127.0.0.1:{self.port}/readyz"), "the web is ready", seconds=60)
        return process

    def restart_web(self) -> None:
        """SIGKILL for what is left of the web, and a new one, as who runs it in production does."""
        self.web.kill()
        self.web.wait()
        self.web = self.start_web()

    def replace_web(self, *version: str) -> subprocess.Popen[bytes]:
        """Start another web beside this one, and let the proxy send everything new there; the old one."""
        old, self.port = self.web, own_port()
        self.web = self.start_web(*version)
        self.front.target = self.port
        return old

    def start_workers(self, count: int, *version: str) -> subprocess.Popen[bytes]:
        """Start so many more workers, and wait until they are ready."""
        before = len(self.worker_pids())
        module = [*version, "tests.kills.worker", str(count)]
        process = self.start("workers", module, STRIPE_API_KEY="sk_test_of_the_kills")
        wait_until(lambda: len(self.worker_pids()) >= before + count, "the workers are ready", seconds=60)
        return process

    def start(self, name: str, module: list[str], **settings: str) -> subprocess.Popen[bytes]:
        """Start a module with the settings of all, and with these; its output is in `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                launched([sys.executable, "-m", *module]),
                cwd=ROOT,
                env=environment(**{**self._settings, **settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def run(self, *module: str) -> None:
        """Run a command to its end, beside the others."""
        process = self.start("commands", list(module), STRIPE_API_KEY="sk_test_of_the_kills")
        assert process.wait(END_SECONDS) == 0, (self.folder / "commands.log").read_text("utf-8")

    def worker_pids(self, number: int | None = None) -> list[int]:
        """The processes of those that are consuming, or of those with this number in their kit."""
        alive = [path.name.split(".") for path in (self.folder / "alive").iterdir()]
        return [int(pid) for which, pid in alive if number in (None, int(which))]

    def arm(self, user_id: str, step: str, moment: str, what: str) -> None:
        """Let the worker that gets to this step of the user's lane first do this, once."""
        hidden = self.folder / f"arming-{user_id}"
        hidden.write_text(f"{step} {moment} {what}", "utf-8")
        hidden.rename(self.folder / "armed" / user_id)

    def tripped(self, user_id: str, seconds: float = END_SECONDS) -> int:
        """Wait until a worker got there; its process id."""
        found: list[Path] = []

        def there() -> bool:
            found[:] = (self.folder / "tripped").glob(f"{user_id}.*")
            return bool(found)

        wait_until(there, f"a process tripped for {user_id}", seconds)
        found[0].unlink()
        return int(found[0].suffix[1:])

    def release(self, user_id: str) -> None:
        """Let the paused worker go on."""
        (self.folder / "released" / user_id).touch()

    def said(self, pid: int, event: str, user_id: str) -> bool:
        """Whether this worker logged this event about this user's lane."""
        lane_id = self.lane(user_id).id
        lines = (self.folder / "logs" / f"{pid}.log").read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines if f'"{event}"' in line]
        named = [f"lane:{lane_id}", lane_id]
        return any(line.get("lane_id", line.get("lock", line.get("row_id"))) in named for line in found)

    # --- what a buyer does

    def post(self, user_id: str, *, plan: str = "standard", wait: float | None = None) -> Answer:
        body = {"user_id": user_id, "plan": plan, "success_url": f"{SHOP}/ok", "cancel_url": f"{SHOP}/no"}
        body["client_reference_id"] = user_id
        return self.call("POST", "/v1/checkouts", body, wait=wait)

    def read(self, location: str, user_id: str, *, wait: float = 5) -> Answer:
        return self.call("GET", f"{location}?user_id={user_id}", None, wait=wait)

    def buy(self, user_id: str, *, plan: str = "standard") -> Json:
        """Ask until it is answered, as a patient buyer does: the checkout."""
        begun = time.monotonic()
        answer = self.post(user_id, plan=plan, wait=2)
        while answer.status == 503 and not answer.location:  # nothing was recorded
            time.sleep(0.5)
            answer = self.post(user_id, plan=plan, wait=2)
        location = answer.location
        while not answer.body.get("url"):
            assert time.monotonic() - begun < END_SECONDS, (user_id, answer)
            assert answer.status in (202, 200, 503), (user_id, answer)
            assert location, answer
            time.sleep(0.1)
            answer = self.read(location, user_id)
        return answer.body

    def event(self, body: bytes, signature: str) -> Answer:
        return self.call("POST", "/webhooks/stripe", body, wait=None, **{"Stripe-Signature": signature})

    # --- what must be true at the end

    def lane(self, user_id: str) -> sa.Row[Any]:
        return self._one(sa.select(lanes).where(lanes.c.user_id == user_id))

    def at_rest(self, user_id: str, url: str, *, creates: int) -> None:
        """E: the last URL is the only open session's, so many were made, one customer, nothing pending."""

        def pending() -> list[Any]:
            waits = sa.select(checkouts.c.id).where(checkouts.c.user_id == user_id, checkouts.c.status == "pending")
            with self.database.read() as connection:
                return list(connection.scalars(waits))

        wait_until(lambda: not pending(), f"nothing pending of {user_id}", END_SECONDS)
        lane = self.lane(user_id)
        assert lane.state == "open", (user_id, lane)
        customer_id = self._one(sa.select(customers.c.customer_id).where(customers.c.user_id == user_id))[0]
        mine = [one for one in self.stripe.sessions().values() if one["client_reference_id"] == user_id]
        live = [one["id"] for one in mine if one["status"] == "open"]
        assert live == [lane.session_id], (user_id, live, lane)
        assert [one["url"] for one in mine if one["id"] == lane.session_id] == [url], user_id
        assert len(mine) == creates, (user_id, [(one["id"], one["status"]) for one in mine])
        assert {one["customer"] for one in mine} == {customer_id}
        page = self.stripe.control("GET", "/v1/customers?limit=100")
        made = [one["id"] for one in page["data"] if (one.get("metadata") or {}).get("user_id") == user_id]
        assert not page["has_more"]
        assert made in ([customer_id], []), (user_id, made)
        with self.database.read() as connection:
            written = list(connection.execute(sa.select(attempts).where(attempts.c.lane_id == lane.id)))
        assert {one.session_id for one in written} >= {one["id"] for one in mine}, "the ledger knows every session"

    def close(self) -> None:
        self._ended.set()
        self._sweeper.join(10)
        for process in reversed(self._running):
            process.kill()
            process.wait()
        self.valkey.kill()
        self.proxy.close()
        self.front.close()

    # --- how

    def _sweep(self) -> None:
        """Beat's part, with an interval of our own."""
        celery = create_producer(Settings(redis_url=self._settings["REDIS_URL"], _env_file=None))
        last = time.monotonic()
        while not self._ended.wait(0.1):
            if time.monotonic() - last >= self.sweep_seconds:
                with suppress(Exception):  # Valkey is gone: that is what is being tested
                    celery.send_task(Sweep.kind, expires=max(self.sweep_seconds, 2), retry=False)
                last = time.monotonic()
        celery.close()

    def call(self, method: str, path: str, body: Any, *, wait: float | None, **headers: str) -> Answer:
        if wait is not None:
            headers["Prefer"] = f"wait={wait:.0f}"
        return ask(f"http://127.0.0.1:{self.front.port}{path}", method, body, **headers)

    def _sandbox_answers(self) -> bool:
        with suppress(OSError):
            return self.stripe.count("price") > 0
        return False

    def _one(self, statement: Any) -> Any:
        found: list[Any] = []

        def read() -> bool:
            with suppress(LedgerUnavailable), self.database.read() as connection:
                found.append(connection.execute(statement).one())
            return bool(found)

        wait_until(read, "the ledger answers")
        return found[0]


@contextmanager
def running_world(folder: Path, **options: Any) -> Iterator[World]:
    world = World(folder, **options)
    try:
        yield world
    finally:
        world.close()
