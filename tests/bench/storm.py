"""A storm: many requests of one buyer at the same moment, and what they leave behind at Stripe.

Two shops, the usual way's (`naive.py`) and onelane's, each of real processes and each with a sandbox of its own: the
same program with the same prices. `make bench` compares them; the tests here hold what must come of it.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jwt

from billing.process.run_with_parent import launched
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, Dev, environment, wait_until

T = TypeVar("T")
Json = dict[str, Any]

THREADS = 160  # of the usual way's server: as many as `onelane web` has
LONGEST_SECONDS = 30
KEY = "sk_test_of_the_storm"  # the sandbox takes any


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with the time at which its request was sent and the time at which it was here."""

    status: int
    body: Json
    location: str | None
    sent_at: float
    came_at: float

    @property
    def url(self) -> str | None:
        return self.body.get("url")


class Client:
    """One connection, opened before the storm, so that the requests and not the handshakes meet."""

    def __init__(self, address: str, **headers: str) -> None:
        self._headers = {"Content-Type": "application/json", **headers}
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=LONGEST_SECONDS)
        self._connection.connect()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent_at = time.time()
        text = None if body is None else json.dumps(body)
        try:
            answer = self._send(method, path, text, headers)
        except http.client.RemoteDisconnected:  # idle for longer than the server keeps it: what only reads goes again
            if method != "GET":
                raise
            answer = self._send(method, path, text, headers)
        came_at = time.time()
        read = answer.read()
        return Answer(answer.status, json.loads(read), answer.headers.get("Location"), sent_at, came_at)

    def _send(self, method: str, path: str, text: str | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request(method, path, body=text, headers={**self._headers, **headers})
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


class Stripe:
    """The sandbox's own side: what it was asked, and what it holds."""

    def __init__(self, address: str) -> None:
        self._address = address

    def control(self, method: str, path: str, body: Any = None) -> Json:
        client = self.client()
        answer = client.ask(method, path, body)
        client.close()
        assert answer.status < 300, answer
        return answer.body

    def client(self) -> Client:
        """An open connection."""
        return Client(self._address, Authorization=f"Bearer {KEY}")

    def slow_down(self, seconds: float) -> None:
        """Let every call take so much longer, while it runs, as the real one's do."""
        self.control("DELETE", "/_sandbox/faults")
        self.control("POST", "/_sandbox/faults", {"kind": "delay", "path": "/v1/", "seconds": seconds, "times": None})

    def forget_calls(self) -> None:
        self.control("DELETE", "/_sandbox/requests")

    def calls(self) -> list[Json]:
        """Every call since then, once no call has come for a while: events are worked after the buyer's answer."""
        seen = -1
        while seen != (seen := self.control("GET", "/_sandbox/requests")["count"]):
            time.sleep(0.5)
        return self.calls_so_far()

    def calls_so_far(self) -> list[Json]:
        """Every call of the API since then, as they ended."""
        asked = self.control("GET", "/_sandbox/requests")["requests"]
        return [call for call in asked if call["path"].startswith("/v1/")]

    def count(self, kind: str) -> int:
        return int(self.control("GET", "/_sandbox/state")["counts"].get(kind, 0))

    def sessions(self) -> dict[str, Json]:
        """Every checkout session, by id."""
        found: dict[str, Json] = {}
        while True:
            after = f"&starting_after={next(reversed(found))}" if found else ""
            page = self.control("GET", f"/v1/checkout/sessions?limit=100{after}")
            found |= {one["id"]: one for one in page["data"]}
            if not page["has_more"]:
                return found


def at_once(clients: list[Client], act: Callable[[int, Client], T]) -> list[T]:
    """Let every client act at the same moment; what came of it, in the order of the clients."""
    results: dict[int, T] = {}
    gate = threading.Barrier(len(clients))

    def run(number: int, client: Client) -> None:
        gate.wait()
        results[number] = act(number, client)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    assert len(results) == len(clients), "a client broke"
    return [results[number] for number in range(len(clients))]


# --- the two shops


def order(shop: str, plan: str = "standard") -> Json:
    return {"plan": plan, "success_url": f"{shop}/thanks", "cancel_url": f"{shop}/plans"}


def buy_as_usual(number: int, client: Client, *, user_id: str) -> list[Answer]:
    return [client.ask("POST", "/checkout", {"user_id": user_id, **order("http://127.0.0.1")})]


def buy(
    number: int, client: Client, *, shop: str, plans: tuple[str, ...] = ("standard",), hasty: int = 0
) -> list[Answer]:
    """Ask for a checkout; follow a 202 to its Location until there is news. Every answer, in order.

    The first `hasty` of the windows do not wait for the answer to their POST.
    """
    prefer = {"Prefer": "wait=0"} if number < hasty else {}
    answers = [client.ask("POST", "/v1/checkouts", order(shop, plans[number % len(plans)]), **prefer)]
    where = answers[0].location
    while answers[-1].body.get("status") == "pending":
        assert where, answers[0]
        assert answers[-1].came_at - answers[0].sent_at < LONGEST_SECONDS, answers
        if len(answers) > 1:
            time.sleep(1)  # its Retry-After
        answers.append(client.ask("GET", where, Prefer="wait=20"))
    return answers


@contextmanager
def usual_shop(folder: Path) -> Iterator[tuple[str, Stripe]]:
    """The usual way and a sandbox of its own; their addresses."""
    port, stripe_port = own_port(), own_port()
    stripe_address, seed = f"http://127.0.0.1:{stripe_port}", "deploy/sandbox-seed.json"
    settings = {
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": stripe_address,
        "NAIVE_DATABASE": str(folder / "naive.sqlite3"),
    }
    granian = ["granian", "--interface", "wsgi", "--port", str(port), "--blocking-threads", str(THREADS)]
    commands = [
        [sys.executable, "-m", "sandbox", "--port", str(stripe_port), "--seed", seed],
        [sys.executable, "-m", *granian, "--backpressure", "1024", "--log-level", "error", "tests.bench.naive:app"],
    ]
    with (folder / "output").open("wb") as output:
        running = [
            subprocess.Popen(launched(command), cwd=ROOT, env=environment(**settings), stdout=output, stderr=output)
            for command in commands
        ]
    try:
        for each in (stripe_port, port):
            wait_until(partial(_listens, each), lambda: (folder / "output").read_text("utf-8"))
        yield f"http://127.0.0.1:{port}", Stripe(stripe_address)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


@contextmanager
def onelane_shop(folder: Path, **settings: str) -> Iterator[tuple[Dev, Stripe]]:
    """A running `onelane dev`, and its sandbox."""
    dev = Dev(folder, own_port(), **settings)
    try:
        dev.says("onelane is ready")
        state = json.loads((folder / "var" / "dev.json").read_text("utf-8"))
        yield dev, Stripe(state["settings"]["STRIPE_API_BASE"])
    finally:
        dev.terminate()


def token(dev: Dev, user_id: str) -> str:
    """A buyer's token."""
    secrets = json.loads((dev.folder / "var" / "dev-secrets.json").read_text("utf-8"))
    return jwt.encode({"sub": user_id, "exp": time.time() + 600}, secrets["AUTH_JWT_SECRET"], "HS256")


def buyers(dev: Dev, user_id: str, count: int) -> list[Client]:
    """So many windows of one buyer."""
    credential = f"Bearer {token(dev, user_id)}"
    return [Client(f"http://127.0.0.1:{dev.port}", Authorization=credential) for _ in range(count)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
