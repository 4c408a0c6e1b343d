"""A sandbox whose subscriptions change by themselves, so many events a second; `python -m tests.kills.changing`.

It takes the sandbox's own arguments. Every event is written down as a line of `events.jsonl` in KILLS_FOLDER, for
somebody else to deliver. It begins when the file `plan` is there, "<customers> <events a second> <events>", and ends
after so many events, or when the plan is gone; then `changed` says how many there were.
"""

import argparse
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from sandbox.core import Sandbox
from sandbox.server import running

FOLDER = Path(os.environ["KILLS_FOLDER"])
PLAN, EVENTS, CHANGED = FOLDER / "plan", FOLDER / "events.jsonl", FOLDER / "changed"
PRICES = ("price_kiloclaw_standard", "price_kiloclaw_commit")


class Changing:
    """The changes, made without HTTP: what is measured is not the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self._made, self._file = sandbox, 0, EVENTS.open("w", encoding="utf-8")
        sandbox.deliveries.enqueue = self._write  # type: ignore[method-assign]
        self._customers: list[str] = []

    def run(self) -> None:
        """Follow the plan."""
        while not PLAN.exists():
            time.sleep(0.02)
        count, rate, most = (int(number) for number in PLAN.read_text("utf-8").split())
        self._customers = [self._ask("POST", "/v1/customers")["id"] for _ in range(count)]
        begun, before = time.monotonic(), self._made
        while PLAN.exists() and self._made < most:
            if self._made - before < rate * (time.monotonic() - begun):
                self._change(random.choice(self._customers))
            else:
                time.sleep(0.001)
        self._file.flush()
        CHANGED.with_suffix(".new").write_text(str(self._made), "utf-8")
        CHANGED.with_suffix(".new").rename(CHANGED)

    def _change(self, customer_id: str) -> None:
        """Mostly a cancellation, or that taken back; now and then another plan, an end, a new beginning."""
        live = self._ask("GET", "/v1/subscriptions", {"customer": customer_id})["data"]
        if not live:
            self._sandbox.give_card(customer_id)
            self._ask("POST", "/v1/subscriptions", {"customer": customer_id, "items": [{"price": PRICES[0]}]})
            return
        one, chance = live[0], random.random()
        path = f"/v1/subscriptions/{one['id']}"
        if chance < 0.01:
            self._ask("DELETE", path)
        elif chance < 0.05:
            item = one["items"]["data"][0]
            other = PRICES[item["price"]["id"] == PRICES[0]]
            self._ask("POST", path, {"items": [{"id": item["id"], "price": other}]})
        else:
            self._ask("POST", path, {"cancel_at_period_end": not one["cancel_at_period_end"]})

    def _ask(self, method: str, path: str, params: Any = None) -> Any:
        answer = self._sandbox.request(method, path, params)
        assert answer.status < 300, (method, path, params, answer.data)
        return json.loads(answer.data)

    def _write(self, event: Any) -> None:
        self._made += 1
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()


def main() -> None:
    arguments = argparse.ArgumentParser()
    for name in ("--port", "--seed", "--webhook-url", "--webhook-secret"):
        arguments.add_argument(name, required=True)
    told = arguments.parse_args()
    sandbox = Sandbox()
    sandbox.seed(json.loads(Path(told.seed).read_text("utf-8")))
    changing = Changing(sandbox)
    with running(sandbox, port=int(told.port)):
        threading.Thread(target=changing.run, daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
