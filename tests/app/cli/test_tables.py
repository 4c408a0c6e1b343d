"""How lists look to a person: within the terminal's width, with ids that can be copied."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.cli.tables import show_one, show_page, show_rows, show_side_by_side

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
SENTENCE = "No such customer: cus_12345678901234. Stripe's request: req_12345678901234. " * 3
SESSION = "cs_test_" + "a" * 58


def event(**instead: Any) -> dict[str, Any]:
    row = {
        "event_id": "evt_1Qabcdefghijklmnopqrstuv",
        "status": "dead",
        "received_at": AT,
        "type": "customer.subscription.updated",
        "customer_id": "cus_12345678901234",
        "attempts": 20,
        "error": SENTENCE,
    }
    return row | instead


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_list_fits_the_terminal_and_breaks_no_id(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-187"""
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [event(), event(error=None, detail={"subscriptions": ["sub_1", "sub_2"]}), event(error=SESSION)]
    show_rows(rows, as_json=False, nothing="")
    show_page(
        event(history=[{"at": AT, "seconds": 0.1, "error": SENTENCE}], next=[f"onelane find {SESSION}"]), as_json=False
    )
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    assert "{" not in shown
    for id_ in ("evt_1Qabcdefghijklmnopqrstuv", "cus_12345678901234", "req_12345678901234", SESSION, "sub_1", "sub_2"):
        assert id_ in shown
    head, first = shown.splitlines()[:2]
    assert head.split()[:3] == ["event_id", "status", "received_at"]
    assert first.startswith("evt_1Qabcdefghijklmnopqrstuv  dead    2026-06-01 12:00:00Z")


def test_what_is_not_there_takes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([event(error=None, customer_id=None, attempts=None)], as_json=False, nothing="")
    assert len(capsys.readouterr().out.splitlines()) == 3, "head, row, and the type below it"


def test_two_subscriptions_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-187"""
    rows = [
        {"subscription_id": f"sub_1Qabcdefghijklmnopqr{side}", "status": side, "amount": "9.00 USD"} for side in "ab"
    ]
    show_side_by_side(rows, head="subscription_id")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["subscription_id", "sub_1Qabcdefghijklmnopqra", "sub_1Qabcdefghijklmnopqrb"],
        ["status", "a", "b"],
        ["amount", "9.00", "USD", "9.00", "USD"],
    ]
    show_side_by_side(rows * 3, head="subscription_id")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_strangers_text_does_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-4"""
    show_one({"error": "\x1b[31mred\nline"}, as_json=False)
    assert capsys.readouterr().out == "error  \\x1b[31mred\\nline\n"
