"""What a mutant changes: where, and whether it is the wording of a sentence alone. Read from what mutmut has written.

mutmut writes each function of a module several times: as it is (`x_name__mutmut_orig`) and with each change
(`x_name__mutmut_7`). What differs between two of them is the change.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path("mutants")
PACKAGES = ("checkout", "customers", "duplicates", "operations", "subscriptions", "webhooks")
# Two words with a blank between them. A code, a parameter and the name of a column have none.
SENTENCE = re.compile(r"[A-Za-z,.:;]{2,} [A-Za-z]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Change:
    """The statement that differs, and whether only the letters of a sentence do."""

    module: str  # its path
    function: str
    lines: range  # of the statement, counted from the function's first
    digest: str  # of the function
    is_wording: bool
    mentions_postgresql: bool  # the function does


@cache
def read_change(name: str) -> Change:
    """What this mutant changes. The default of an argument counts as its function's first statement."""
    module, _, mutant = name.rpartition(".")
    path = module.replace(".", "/") + ".py"
    functions = written(FOLDER / path)
    own = mutant.rpartition("__mutmut_")[0]
    original, changed = functions[f"{own}__mutmut_orig"], functions[mutant]
    begins = original.body[1 if ast.get_docstring(original) and len(original.body) > 1 else 0]
    [(at, before, after), *others] = _differences(begins, original, changed)
    wording = not others and isinstance(before, str) and isinstance(after, str) and bool(SENTENCE.search(before))
    lines = range(at.lineno - original.lineno, _last_line(at) - original.lineno + 1)
    return Change(path, own[2:], lines, digest_of(original), wording, "postgresql" in ast.dump(original))


def functions_of(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """The functions and methods of a module; a method by its class and its name, as mutmut joins them."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}ǁ{each.name}", each) for each in node.body if isinstance(each, Function))


def digest_of(function: Function) -> str:
    """What it does, whatever it is called and wherever it stands."""
    return hashlib.sha256("".join(map(ast.dump, [function.args, *function.body])).encode()).hexdigest()[:16]


@cache
def written(path: Path) -> dict[str, Function]:
    """Whatever mutmut wrote into a file, by mutmut's names: those of methods have their class in them already."""
    return {node.name: node for _, node in functions_of(ast.parse(path.read_text("utf-8")))}


def _differences(at: ast.stmt, before: Any, after: Any) -> Iterator[tuple[ast.stmt, Any, Any]]:
    """The smallest parts that differ, each with the innermost statement that it is in."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _differences(at, one, other)
    elif isinstance(before, ast.AST) and type(before) is type(after):
        if isinstance(before, Function):
            parts: tuple[str, ...] = ("args", "body")
        else:
            parts, at = before._fields, before if isinstance(before, ast.stmt) else at
        for part in parts:
            yield from _differences(at, getattr(before, part, None), getattr(after, part, None))
    elif before != after:
        yield at, before, after


def _last_line(statement: ast.stmt) -> int:
    """Of a statement with others in it, the last line of its head."""
    if isinstance(statement, ast.Match):
        return statement.subject.end_lineno or statement.lineno
    if body := getattr(statement, "body", None):
        return int(max(statement.lineno, body[0].lineno - 1))
    return statement.end_lineno or statement.lineno
