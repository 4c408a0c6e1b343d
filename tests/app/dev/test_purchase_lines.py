"""What a whole purchase says in the log of a running `onelane dev`."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import own_port
from tests.support.running_dev import Dev, onelane, wait_until


def ask(address: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def purchase(folder: Path, **settings: str) -> str:
    """What is said from the request for a checkout until the application was told."""
    dev = Dev(folder, own_port(), **settings)
    try:
        dev.says("onelane is ready")
        before = len(dev.output)
        home, back = f"http://127.0.0.1:{dev.port}", f"http://127.0.0.1:{dev.port}/shop"
        stripe = json.loads((folder / "var" / "dev.json").read_text("utf-8"))["settings"]["STRIPE_API_BASE"]
        bearer = {"Authorization": f"Bearer {onelane('token', 'ann', folder=folder).stdout.strip()}"}
        order = {"plan": "standard", "success_url": back, "cancel_url": back}

        checkout = ask(f"{home}/v1/checkouts", order, **bearer)
        ask(f"{stripe}/_sandbox/checkout_sessions/{checkout['session_id']}/pay", {})
        dev.says("notification.delivered")
        assert ask(f"{home}/v1/subscription", **bearer)["access"]["granted"]
        wait_until(lambda: not ask(f"{stripe}/_sandbox/state")["pending_deliveries"], lambda: "deliveries")
        onelane("report", folder=folder)  # whatever follows has been worked by then
    finally:
        dev.terminate()
    return dev.output[before:].split("stopping")[0]


def line(said: str, *, of: str, event: str) -> dict[str, str]:
    """The fields of the first line of this process about this event."""
    found = next(one for one in said.splitlines() if one.startswith(f"{of} ") and f" {event} " in one)
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', found)}


def test_purchase_takes_at_most_four_lines(tmp_path: Path) -> None:
    """OPS-176"""
    said = purchase(tmp_path)

    lines = [one for one in said.splitlines() if re.search(r" \w+\.\w+ ", one) and "sweep.finished" not in one]
    assert len(lines) <= 4, said


def test_lines_of_a_purchase_belong_together(tmp_path: Path) -> None:
    """OPS-174, OPS-175: web, queue, worker; the events, and what the application is told."""
    said = purchase(tmp_path, LOG_LEVEL="debug")

    answered = line(said, of="web", event="checkout.answered")
    called = line(said, of="checkout", event="stripe.answered")
    synced, told = (line(said, of="worker", event=event) for event in ("customer.synced", "notification.delivered"))
    assert {called[name] for name in ("request_id", "checkout_id")} == {answered["request_id"], answered["checkout_id"]}
    assert re.fullmatch(r"[0-9a-f-]{36}", called["task_id"])
    assert called["stripe_request_id"].startswith("req_")
    assert synced["event_ids"].startswith("evt_")
    assert synced["customer_id"] == told["customer_id"]
    assert synced["task_id"] != called["task_id"]
