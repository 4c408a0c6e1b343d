"""SBX-68: no parameter is taken and forgotten, and none that Stripe has is called unknown.

The walk sends each parameter of each address alone, on top of a request that works, and compares everything that the
sandbox knows and answers with what it knows and answers without it: where nothing differs, it was forgotten.
"""

import json
import re
from typing import Any

import pytest

from sandbox import Sandbox, known
from sandbox.forms import leaves
from sandbox.routes import ROUTES
from tests.sandbox.parameter_values import REFUSE, VALUES
from tests.sandbox.parameter_world import BASES, Case, ids_of, path_id, world
from tests.support import stripe_knows

ADDRESSES = {f"{method} {stripe_knows.generic(path)}": (method, path, table) for method, path, table in ROUTES}
WALKED = [(address, param) for address, (_, _, table) in ADDRESSES.items() for param in leaves(table)]
KNOWLEDGE: dict[str, Any] = json.loads(known.FILE.read_text("utf-8"))


def test_what_stripe_knows_is_what_the_installed_sdk_says() -> None:
    """SBX-68"""
    assert known.FILE.read_text("utf-8") == stripe_knows.knowledge(), "run: python -m tests.support.stripe_knows"


def test_every_address_and_parameter_that_is_served_is_stripes() -> None:
    """SBX-68, SBX-69"""
    assert sorted(set(ADDRESSES) - set(KNOWLEDGE) - {"GET /v2/core/events/{id}"}) == []
    assert [one for one in WALKED if not known.is_parameter(one[0], one[1].removesuffix("[0]"))] == []


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


@pytest.mark.parametrize("address", sorted({address for address, _ in WALKED}))
def test_no_word_of_stripes_is_called_invalid(sandbox: Sandbox, address: str) -> None:
    """SBX-68: taken, or refused with 501"""
    method, path, _ = ADDRESSES[address]
    for param in (one for where, one in WALKED if where == address):
        for word in (*known.words(address, param), "no-such-word"):
            answer = sandbox.request(method, path.replace("{id}", "x").replace("{other}", "y"), nested(param, word))
            invalid = answer.body.get("error", {}).get("message", "").startswith(f"Invalid {param}: must be one of")
            assert not invalid or word == "no-such-word", (param, word)


@pytest.fixture(scope="module")
def walked() -> tuple[Sandbox, Any]:
    """The world, and the moment to which each request returns it."""
    sandbox = world()
    return sandbox, sandbox.snapshot()


@pytest.mark.parametrize("address", sorted({address for address, _ in WALKED}))
def test_no_parameter_is_taken_and_forgotten(walked: tuple[Sandbox, Any], address: str) -> None:
    """SBX-68"""
    sandbox, start = walked
    sandbox.restore(start)
    ids = ids_of(sandbox)
    forgotten, refused = [], []
    for param in (one for where, one in WALKED if where == address):
        case = VALUES.get((address, param)) or VALUES.get(param) or Case("x")
        if case.shows_only:
            continue

        def outcome(sent: Any, days: int, case: Case = case) -> Any:
            sandbox.restore(start)
            return _outcome(sandbox, address, ids, case.beside, sent, days)

        sent = nested(param, case.value(ids))
        status, answer, _ = outcome(sent, 0)
        if (address, param) in REFUSE or param in REFUSE:
            assert 400 <= status < 500, (address, param)
        elif status != 200:
            refused.append((param, answer))
        elif all(outcome(sent, days) == outcome({}, days) for days in (0, 40)):  # some act later, such as a trial's end
            forgotten.append(param)
    assert refused == []
    assert forgotten == []


@pytest.mark.parametrize("address", sorted({address for address, _ in WALKED}))
def test_no_value_of_a_parameter_is_a_mistake_of_the_sandboxs(walked: tuple[Sandbox, Any], address: str) -> None:
    """SBX-58"""
    sandbox, start = walked
    sandbox.restore(start)
    ids = ids_of(sandbox)
    for param in (one for where, one in WALKED if where == address):
        for value in ("", "x", "-1", "0", "now", {"0": "x"}, {"a": ""}, {}):
            sandbox.restore(start)
            beside = (VALUES.get((address, param)) or VALUES.get(param) or Case("x")).beside
            status, answer, _ = _outcome(sandbox, address, ids, beside, nested(param, value), 0)
            assert status != 500, (param, value, answer)


def _outcome(sandbox: Sandbox, address: str, ids: dict[str, str], beside: Any, sent: Any, days: int) -> Any:
    """The status, the answer, and everything that the sandbox knows so many days later."""
    method, path, _ = ADDRESSES[address]
    base = BASES.get(address, Case({})).value(ids)
    path = path.replace("{id}", path_id(address, ids)).replace("{other}", ids["cbtxn"])
    answer = sandbox.request(method, path, merged(merged(base, Case(beside or {}).value(ids)), sent))
    sandbox.advance(days * 86400)
    kinds = ("idempotency_key", "setting", "delivery")
    state = {kind: sandbox.store.all(kind) for kind in sandbox.store.counts() if kind not in kinds}
    return answer.status, answer.body, state if method != "GET" else None


def merged(base: Any, more: Any) -> Any:
    """Both, nested; a list is a table of positions here, as a form decodes it."""
    if isinstance(base, list):
        base = {str(index): one for index, one in enumerate(base)}
    if not isinstance(base, dict) or not isinstance(more, dict):
        return more
    both = {**base, **{name: merged(base.get(name), value) for name, value in more.items()}}
    return {name: value for name, value in both.items() if value is not None}
