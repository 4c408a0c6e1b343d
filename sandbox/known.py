"""What Stripe knows: its addresses, and the parameters of those that are served here.

It is written from the official SDK by `python -m tests.support.stripe_knows`. A parameter that no table of the sandbox
names is looked up here: Stripe's own is refused as `sandbox_unsupported`, any other as unknown.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from .forms import INDEX

FILE = Path(__file__).with_name("stripe_knows.json")


@cache
def _addresses() -> dict[str, dict[str, Any] | None]:
    return dict(json.loads(FILE.read_text("utf-8"))) if FILE.exists() else {}


@cache
def _patterns() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one).replace(r"\{id\}", "[^/]+") for one in _addresses()) or "(?!)")


def is_address(method: str, path: str) -> bool:
    """Whether Stripe answers there."""
    return _patterns().fullmatch(f"{method} {path}") is not None


def is_word(method: str, path: str) -> bool:
    """Whether this very address is one of Stripe's, with no id in it."""
    return f"{method} {path}" in _addresses()


def is_parameter(address: str, param: str) -> bool:
    """Whether Stripe takes `items[0][price]` at `POST /v1/subscriptions`. A position in a list is no parameter."""
    last = param.rstrip("]").rpartition("[")[2]
    return not INDEX.fullmatch(last) and _node(address, param) is not None


def words(address: str, param: str) -> tuple[str, ...]:
    """The words that Stripe lists as values of a parameter; none where it takes any text."""
    node = _node(address, param)
    return tuple(node) if isinstance(node, list) else ()


def _node(address: str, param: str) -> Any:
    node: Any = _addresses().get(address)
    for part in re.split(r"[\[\]]+", param.rstrip("]")):
        if not INDEX.fullmatch(part):
            node = node.get(part) if isinstance(node, dict) else None
    return node
