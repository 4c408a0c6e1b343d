"""What Stripe knows, read from the installed SDK: every address, and the parameters of those that the sandbox serves.

`python -m tests.support.stripe_knows` writes it to `sandbox/stripe_knows.json`, from which the sandbox tells a
parameter that it lacks from one that does not exist. `tests/sandbox/test_parameters.py` fails when the file is old.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import stripe

from sandbox.known import FILE
from sandbox.routes import ROUTES

Names = dict[str, Any]  # a parameter, and the parameters inside it (a list's are those of its elements) or its words
SDK = Path(stripe.__file__).parent
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]+")
_WORDS = re.compile(r"Literal\[([^\]]*)\]")
_WORD = re.compile(r"'([^']+)'")
_OF_EVERY_REQUEST = frozenset(["api_key", "stripe_account", "stripe_context", "stripe_version", "idempotency_key"])


def addresses() -> dict[str, str | None]:
    """`POST /v1/customers/{id}` and so on, each with the class of its parameters; the names in braces are all `id`."""
    found: dict[str, str | None] = {}
    for path in sorted(SDK.rglob("_*_service.py")):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            each.name: f"{node.module}.{each.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stripe.params")
            for each in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                found.update(_requests(node, imported))
    return dict(sorted(found.items()))


def _requests(function: ast.FunctionDef, imported: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    classes = [_CLASS.findall(ast.unparse(each.annotation)) for each in function.args.args if each.annotation]
    named = next((imported[name] for names in classes for name in names if name in imported), None)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_request":
            words = [
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            method = next(word for word in words if word in ("get", "post", "delete"))
            path = next(word for word in words if word.startswith("/v"))
            yield f"{method.upper()} {generic(path)}", named


def generic(path: str) -> str:
    return re.sub(r"\{[a-z_]+\}", "{id}", path)


@cache
def _classes() -> dict[str, dict[str, str]]:
    """The fields of every class of parameters, with their annotations as text."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((SDK / "params").rglob("_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[f"{_module(path)}.{node.name}"] = _fields(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):  # names that no class can have
                found[f"{_module(path)}.{node.targets[0].id}"] = _functional(node.value)
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SDK.parent).with_suffix("").parts)


def _fields(node: ast.ClassDef) -> dict[str, str]:
    inherited = {base.id for base in node.bases if isinstance(base, ast.Name)}
    own = {
        one.target.id: ast.unparse(one.annotation)
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    return {**{f"*{name}": name for name in inherited}, **own}


def _functional(value: ast.expr) -> dict[str, str]:
    """`X = TypedDict("X", {"from": …})`"""
    if isinstance(value, ast.Call) and len(value.args) > 1 and isinstance(value.args[1], ast.Dict):
        table = value.args[1]
        return {str(key.value): ast.unparse(each) for key, each in zip(table.keys, table.values, strict=True)
                if isinstance(key, ast.Constant)}  # fmt: skip
    return {}


def _names(module: str, name: str) -> Names:
    found: Names = {}
    for field, annotation in _classes().get(f"{module}.{name}", {}).items():
        inner: Names = {}
        for one in _CLASS.findall(annotation):
            inner.update(_names(module, one))
        words = sorted({word for words in _WORDS.findall(annotation) for word in _WORD.findall(words)})
        if field.startswith("*"):
            found.update(inner)
        elif field not in _OF_EVERY_REQUEST:
            found[field] = inner or words
    return found


def parameters(params_class: str) -> Names:
    """The names that a class of parameters has, nested as they are sent."""
    module, _, name = params_class.rpartition(".")
    return dict(sorted(_names(module, name).items()))


def knowledge() -> str:
    """The file's text: one line for each address, so that a new SDK is a readable difference."""
    known = addresses()
    served = {f"{method} {generic(path)}" for method, path, _ in ROUTES}
    lines = [
        f"{json.dumps(address)}: {json.dumps(parameters(name) if name and address in served else None)}"
        for address, name in known.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(knowledge(), encoding="utf-8")
