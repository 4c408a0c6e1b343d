"""The state: it survives a restart, can be returned to, and is the same for the same seed and clock."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe

from billing.process.run_with_parent import launched
from sandbox import Sandbox


def test_a_restarted_sandbox_still_knows_everything(tmp_path: Path, params: Callable[..., Any], catalog: Any) -> None:
    # SBX-46
    path = tmp_path / "state.db"
    first = Sandbox(state_path=path)
    first.seed(catalog)
    session = first.request("POST", "/v1/checkout/sessions", params(), idempotency_key="k")
    paid = first.pay(session.body["id"])
    first.advance(3600)
    left = first.request("POST", "/v1/checkout/sessions", params()).body["id"]
    first.close()

    second = Sandbox(state_path=path)
    again = second.request("POST", "/v1/checkout/sessions", params(), idempotency_key="k")
    assert (again.replayed, again.data) == (True, session.data)
    assert second.request("GET", f"/v1/subscriptions/{paid['subscription']}").body["status"] == "active"
    listed = second.request("GET", "/v1/checkout/sessions").body["data"]
    assert [one["id"] for one in listed] == [left, paid["id"]]
    assert second.clock.offset == 3600
    second.advance(25 * 3600)
    assert second.request("GET", f"/v1/checkout/sessions/{left}").body["status"] == "expired"
    assert second.request("POST", "/v1/customers", {}).body["id"] not in {one["id"] for one in catalog}
    second.close()


def test_a_snapshot_can_be_returned_to(sandbox: Sandbox, open_session: Callable[..., Any]) -> None:
    # SBX-47
    session = open_session()["id"]
    sandbox.faults.add("status", path="/v1/customers")
    moment = sandbox.snapshot()
    first = sandbox.pay(session)
    sandbox.advance(100)
    assert sandbox.request("GET", "/v1/customers").status == 500
    sandbox.restore(moment)
    assert sandbox.request("GET", f"/v1/checkout/sessions/{session}").body["status"] == "open"
    assert sandbox.request("GET", "/v1/subscriptions").body["data"] == []
    assert sandbox.request("GET", "/v1/customers").status == 500
    assert sandbox.clock.offset == 0
    assert sandbox.pay(session)["subscription"] == first["subscription"]
    sandbox.restore(moment)
    sandbox.restore(moment)
    assert sandbox.pay(session)["subscription"] == first["subscription"]


def test_the_same_seed_and_clock_give_the_same_answers(params: Callable[..., Any], catalog: Any) -> None:
    # SBX-47
    def run(seed: int) -> list[bytes]:
        one = Sandbox(seed=seed, clock=lambda: 1_800_000_000.0)
        one.seed(catalog)
        session = one.request("POST", "/v1/checkout/sessions", params())
        one.pay(session.body["id"])
        return [session.data, one.request("GET", "/v1/events", {"limit": 100}).data]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_nobody_can_change_the_state_through_an_answer(sandbox: Sandbox) -> None:
    # SBX-47
    answer = sandbox.request("GET", "/v1/customers/cus_ann")
    before = copy.deepcopy(answer.body)
    answer.body["metadata"]["x"] = "y"
    assert sandbox.request("GET", "/v1/customers/cus_ann").body == before


def test_seeding_twice_changes_nothing(sandbox: Sandbox, catalog: Any) -> None:
    # SBX-48
    before = sandbox.store.counts()
    assert sandbox.seed(catalog) == len(catalog)
    assert sandbox.store.counts() == before
    price = sandbox.request("GET", "/v1/prices/price_half_year").body
    assert (price["type"], price["recurring"]["interval_count"], price["unit_amount"]) == ("recurring", 6, 4800)
    assert price["unit_amount_decimal"] == "4800"


def test_a_seed_with_less_than_an_id_is_refused(sandbox: Sandbox) -> None:
    # SBX-48
    for nonsense in ({"object": "price"}, {"object": "unicorn", "id": "uni_1"}):
        with pytest.raises(Exception, match=r"seed|id"):
            sandbox.seed([nonsense])


def start(port: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        launched([sys.executable, "-m", "sandbox", "--port", str(port), *more]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_the_process_serves_and_stops_and_keeps_its_state(tmp_path: Path) -> None:
    # SBX-49
    seed = tmp_path / "seed.json"
    seed.write_text('[{"object": "customer", "id": "cus_seeded", "email": "s@example.com"}]')
    options = ("--state", str(tmp_path / "state.db"), "--seed", str(seed))
    made = ""
    for _ in range(2):
        process = start(0, *options)
        assert process.stdout is not None
        url = process.stdout.readline().partition("sandbox: ")[2].strip()
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
        assert client.v1.customers.retrieve("cus_seeded").email == "s@example.com"
        if made:
            assert client.v1.customers.retrieve(made).name == "kept"
        made = client.v1.customers.create({"name": "kept"}).id
        idle = requests.Session()
        idle.get(url, timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0  # also with a client that keeps its connection
        assert process.stdout.read() == ""
        process.stdout.close()
        idle.close()


def test_a_killed_process_lost_nothing_that_it_answered(tmp_path: Path) -> None:
    # SBX-46
    options = ("--state", str(tmp_path / "state.db"))
    made: list[str] = []
    for _ in range(2):
        process = start(0, *options)
        assert process.stdout is not None
        url = process.stdout.readline().partition("sandbox: ")[2].strip()
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
        assert [one.id for one in client.v1.customers.list({"limit": 100}).data] == made[::-1]
        made += [client.v1.customers.create({}).id for _ in range(5)]
        process.kill()
        process.wait(5)
        process.stdout.close()
