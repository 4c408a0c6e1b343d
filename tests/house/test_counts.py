"""A count stands with its noun by one helper, so that nobody reads "1 events": `in_number`, in templates `counted`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOUNS = (
    "attempts|changes|checkouts|connections|customers|deliveries|endpoints|events|incidents|keys|messages|notifications"
    "|operations|others|pages|payloads|plans|processes|remedies|replays|rows|sessions|subscriptions|threads|times|tries"
    "|types|users|workers"
)
# A figure and its noun may have a word between them: `{count} open sessions`.
COUNT = re.compile(rf"^ (?:[a-z]+ )?(?:{NOUNS})\b")
IN_TEMPLATE = re.compile(rf"\}}\}} (?:[a-z]+ )?(?:{NOUNS})\b")


def counts_in(tree: ast.Module) -> Iterator[int]:
    """The lines on which an f-string has a figure before such a noun, but for a figure that never is 1: a constant."""
    for string in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
        for value, after in zip(string.values, string.values[1:], strict=False):
            figure = isinstance(value, ast.FormattedValue) and not (
                isinstance(value.value, ast.Name) and value.value.id.isupper()
            )
            if figure and isinstance(after, ast.Constant) and COUNT.match(str(after.value)):
                yield string.lineno


# Nobody's figure is 1 here: of several subscriptions; of a pool that gave fewer places than it has; of a name.
ROOTS = ("app", "billing", "worker", "onelane")
EXEMPT = {"billing/operations/refusals.py", "billing/database/suitable.py"}


def test_count_and_noun_are_put_together_by_one_helper() -> None:
    """OPS-230"""
    found = []
    for path in (one for root in ROOTS for one in sorted((ROOT / root).rglob("*"))):
        name = path.relative_to(ROOT).as_posix()
        if name in EXEMPT:
            continue
        if path.suffix == ".py":
            found += [f"{name}:{line}" for line in counts_in(ast.parse(path.read_text("utf-8")))]
        elif path.suffix == ".html":
            lines = enumerate(path.read_text("utf-8").splitlines(), 1)
            found += [f"{name}:{number}" for number, line in lines if IN_TEMPLATE.search(line)]
    assert not found, "\n".join(found)
