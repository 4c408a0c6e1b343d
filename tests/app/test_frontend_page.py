"""docs/frontend.md against what it describes; its script is run by tests/browser/test_frontend.py."""

import re
from pathlib import Path

from app.errors.problems import PROBLEMS
from tests.support.web import DOCUMENT, ORIGIN, Web

PAGE = (Path(__file__).parents[2] / "docs" / "frontend.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3})(, retryable)? \|", PAGE, re.MULTILINE)


def test_script_is_short() -> None:
    """API-64"""
    (script,) = re.findall(r"```js\n(.+?)```", PAGE, re.DOTALL)
    assert len(script.splitlines()) <= 15
    assert max(map(len, script.splitlines())) <= 120


def test_codes_are_told_as_they_are() -> None:
    """API-64"""
    assert [(code, int(status), bool(retryable)) for code, status, retryable in ROWS] == [
        (code, PROBLEMS[code].status, PROBLEMS[code].retryable) for code, *_ in ROWS
    ]


def test_every_conflict_that_a_buyer_can_meet_is_told() -> None:
    """API-64"""
    conflicts = {
        code
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
        if {"buyer": []} in operation["security"] and "409" in operation["responses"]
        for code in operation["responses"]["409"]["content"]["application/problem+json"]["schema"]["allOf"][1][
            "properties"
        ]["code"]["enum"]
    }
    assert {code for code, status, _ in ROWS if status == "409"} == conflicts


def test_headers_that_a_page_may_read_are_all_told(web: Web) -> None:
    """API-33, API-64"""
    exposed = web.get("/v1/plans", headers={"Origin": ORIGIN}).headers["Access-Control-Expose-Headers"]
    told = PAGE[PAGE.index("can read these headers") :].partition(".")[0]
    assert set(re.findall(r"`([A-Za-z-]+)`", told)) == {name.strip() for name in exposed.split(",")}
