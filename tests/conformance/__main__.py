"""`make conformance`: Stripe's own CLI and SDKs against a running sandbox, every answer held against Stripe's document.

It needs a package registry the first time, and node for the CLI. What cannot be run says so in the table. Exit 1 when
anything failed, or could not be run that is not expected in `expected.toml`.
"""

import socket
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from billing.process.run_with_parent import launched
from tests.conformance import schemas, tools
from tests.conformance.programs import Outcome, Row, fixture, sdks, triggers
from tests.conformance.recorder import Exchange, Recorder, recording
from tests.support.ports import own_port
from tests.support.running_dev import wait_until

ROOT = Path(__file__).parents[2]
console = Console(width=160)


def main() -> None:
    port = own_port()
    sandbox = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(launched([sys.executable, "-m", "sandbox", "--port", str(port)]), cwd=ROOT)
    try:
        wait_until(lambda: _listens(port), lambda: "the sandbox listens")
        with recording(sandbox) as recorder:
            rows = [*_run(sdks, recorder, sandbox), *_run(fixture, recorder, sandbox)]
            rows += _run(triggers, recorder, sandbox)
    finally:
        process.terminate()
        process.wait(10)
    rows += answers(recorder.exchanges)
    rows.append(parameters())
    report(rows)
    expected = tomllib.loads((Path(__file__).parent / "expected.toml").read_text("utf-8"))
    if surprises := unexpected(rows, expected):
        console.print("Neither passed nor expected:", *surprises, sep="\n  ", highlight=False)
        sys.exit(1)


def _run(part: Callable[[Recorder, str], Iterator[Row]], recorder: Recorder, sandbox: str) -> list[Row]:
    rows = []
    try:
        for row in part(recorder, sandbox):
            rows.append(row)
    except tools.Absent as absent:
        rows.append(Row(part.__name__, Outcome.NOT_RUN, str(absent)))
    return rows


def answers(exchanges: Iterable[Exchange]) -> Iterator[Row]:
    """Every answer of the sandbox against Stripe's document, one row for each kind of mistake."""
    try:
        document = schemas.Document(schemas.read(tools.openapi()))
    except tools.Absent as absent:
        yield Row("answers by Stripe's document", Outcome.NOT_RUN, f"none was validated: {absent}")
        return
    good, unknown, wrong = 0, Counter[str](), Counter[str]()
    for one in exchanges:
        mistakes = document.mistakes(one.method, one.path, one.status, one.answer)
        if mistakes is None:
            unknown[f"{one.method} {one.path}"] += 1
        elif mistakes:
            wrong.update(f"{one.answer.get('object', 'error')} {mistake}" for mistake in mistakes)
        else:
            good += 1
    about = f"{good} by the document {document.version}"
    yield Row("answers by Stripe's document", Outcome.FAILED if not good else Outcome.PASSED, about)
    yield from (Row("answer", Outcome.FAILED, f"{count} times: {mistake}") for mistake, count in wrong.most_common(40))
    if unknown:
        yield Row("answers without a schema", Outcome.NOT_RUN, f"{unknown.total()}: {', '.join(sorted(unknown)[:5])}")


def parameters() -> Row:
    """No parameter is taken and forgotten: the sandbox's own walk over all of them."""
    code = pytest.main(["-q", "-n", "0", "--no-header", str(ROOT / "tests/sandbox/test_parameters.py")])
    return Row("no parameter ignored (SBX-68)", Outcome.FAILED if code else Outcome.PASSED)


def report(rows: list[Row]) -> None:
    table = Table("what", "outcome", "why", title="Stripe's programs against the sandbox")
    for row in rows:
        table.add_row(row.what, row.outcome.value, row.why)
    console.print(table)
    counted = Counter(row.outcome for row in rows)
    console.print(", ".join(f"{counted[one]} {one.value}" for one in Outcome), highlight=False)


def unexpected(rows: Iterable[Row], expected: dict[str, dict[str, str]]) -> list[str]:
    """Failures, and what could not be run for another reason than the file has. A named one that passes is one, too."""
    named = expected.get("not run", {})
    found = []
    for row in rows:
        if row.outcome is Outcome.FAILED or (row.outcome is Outcome.NOT_RUN and row.what not in named):
            found.append(f"{row.what}: {row.outcome.value}: {row.why}")
        elif row.outcome is Outcome.PASSED and row.what in named:
            found.append(f"{row.what}: passes; take it out of expected.toml")
    return found


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
