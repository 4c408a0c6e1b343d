"""What a whole purchase says in the log of a running `onelane dev`."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from app.dev.ports import free_port
from tests.support.running_dev import Dev, onelane, wait_until


def ask(address: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_purchase_takes_four_lines_that_belong_together(tmp_path: Path) -> None:
    """OPS-174, OPS-176"""
    dev = Dev(tmp_path, free_port(18_800))
    try:
        dev.says("onelane is ready")
        before = len(dev.output)
        home, back = f"http://127.0.0.1:{dev.port}", f"http://127.0.0.1:{dev.port}/shop"
        stripe = json.loads((tmp_path / "var" / "dev.json").read_text("utf-8"))["settings"]["STRIPE_API_BASE"]
        bearer = {"Authorization": f"Bearer {onelane('token', 'ann', folder=tmp_path).stdout.strip()}"}
        order = {"plan": "standard", "success_url": back, "cancel_url": back}

        checkout = ask(f"{home}/v1/checkouts", order, **bearer)
        ask(f"{stripe}/_sandbox/checkout_sessions/{checkout['session_id']}/pay", {})
        dev.says("notification.delivered")
        granted = ask(f"{home}/v1/subscription", **bearer)
        wait_until(lambda: not ask(f"{stripe}/_sandbox/state")["pending_deliveries"], lambda: "deliveries")
        onelane("report", folder=tmp_path)  # whatever follows has been worked by then
    finally:
        dev.terminate()

    assert granted["access"]["granted"]
    said = dev.output[before:].split("stopping")[0]
    lines = [line for line in said.splitlines() if re.search(r" \w+\.\w+ ", line) and "sweep.finished" not in line]
    assert len(lines) <= 4, said
    customer = re.search(r"customer.synced customer_id=(cus_\w+)", said)
    assert customer
    [answered, synced, told] = [
        next(line for line in lines if event in line)
        for event in ("checkout.answered", "customer.synced", "notification.delivered")
    ]
    assert re.search(r"checkout_id=chk_\w+ .*request_id=req_\w+", answered)
    assert re.search(r"task_id=[0-9a-f-]{36} event_ids=\"?evt_\w+", synced)
    assert f"customer_id={customer[1]}" in told
