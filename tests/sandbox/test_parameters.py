"""SBX-68: no parameter is taken and forgotten, and none that Stripe has is called unknown."""

import json
import re
from typing import Any

import pytest

from sandbox import Sandbox, known
from sandbox.forms import leaves
from sandbox.routes import ROUTES
from tests.support import stripe_knows

ADDRESSES = {f"{method} {stripe_knows.generic(path)}": (method, path, table) for method, path, table in ROUTES}
WALKED = [
    (address, param)
    for address, (_, _, table) in ADDRESSES.items()
    for param in leaves(table)
    if param != "expand"  # one rule for all addresses, in `answers`; SBX-5 tests it
]
KNOWLEDGE: dict[str, Any] = json.loads(known.FILE.read_text("utf-8"))


def test_what_stripe_knows_is_what_the_installed_sdk_says() -> None:
    """SBX-68"""
    assert known.FILE.read_text("utf-8") == stripe_knows.knowledge(), "run: python -m tests.support.stripe_knows"


def test_every_address_and_parameter_that_is_served_is_stripes() -> None:
    """SBX-68, SBX-69"""
    assert sorted(set(ADDRESSES) - set(KNOWLEDGE) - {"GET /v2/core/events/{id}"}) == []
    assert [one for one in WALKED if not known.is_parameter(*one)] == []


def _inside(node: Any, prefix: str = "") -> Any:
    for name, inner in (node or {}).items():
        param = f"{prefix}[{name}]" if prefix else name
        yield param
        if isinstance(inner, dict):
            yield from _inside(inner, param)


def nested(param: str, value: Any) -> dict[str, Any]:
    """`a[b][0]` as the values that a form decodes to."""
    for part in reversed(param.replace("]", "").split("[")):
        value = {part: value}
    return dict(value)


@pytest.mark.parametrize("address", sorted(ADDRESSES))
def test_what_stripe_has_and_the_sandbox_does_not_is_a_501(sandbox: Sandbox, address: str) -> None:
    """SBX-68"""
    method, path, table = ADDRESSES[address]
    taken = {param.replace("[0]", "") for param in leaves(table)}
    for param in _inside(KNOWLEDGE.get(address)):
        parts = param.split("[")
        above = {"[".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        if param in taken or above & taken or any(one.startswith(f"{param}[") for one in taken) or param == "expand":
            continue
        answer = sandbox.request(method, path.replace("{id}", "x").replace("{other}", "y"), _sent(table, param))
        error = answer.body["error"]
        assert (answer.status, error["code"]) == (501, "sandbox_unsupported"), (address, param)
    nonsense = sandbox.request(method, path.replace("{id}", "x").replace("{other}", "y"), {"nonsense": "1"})
    assert (nonsense.status, nonsense.body["error"]["code"]) == (400, "parameter_unknown")


def _sent(table: Any, param: str) -> dict[str, Any]:
    """The parameter in a list where the table says so: an unknown name is looked for inside its elements."""
    lists = {one[: at.start()].replace("[0]", "") for one in leaves(table) for at in re.finditer(r"\[0\]", one)}
    sent, generic = "", ""
    for part in param.replace("]", "").split("["):
        sent = f"{sent}[{part}]" if sent else part
        generic = f"{generic}[{part}]" if generic else part
        if generic in lists and generic != param:
            sent += "[0]"
    return nested(sent, "1")
