"""Which of the mutants that lived the type checker refuses: `make test` runs it, so none of them would be merged.

mutmut has written all changes of a function beside it, so one run over its files is enough for all of them.
"""

import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from tests.mutation.changes import FOLDER, written

_ERROR = re.compile(r"(billing/[\w/]+\.py):(\d+): error: ")


def refused(names: Collection[str]) -> set[str]:
    """Those of the mutants that mypy refuses.

    It also refuses two functions as they are, only because mutmut has renamed them: methods of which others are typed.
    None of their mutants counts.
    """
    command = [str(Path(sys.executable).with_name("mypy")), "--no-error-summary", "-p", "billing"]
    said = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    found: set[str] = set()
    for match in map(_ERROR.match, said.stdout.splitlines()):
        if match is not None:
            found |= _of_line(Path(match[1]), int(match[2]))
    return {name for name in found & set(names) if f"{name.rpartition('__mutmut_')[0]}__mutmut_orig" not in found}


def _of_line(path: Path, line: int) -> set[str]:
    module = ".".join(path.with_suffix("").parts)
    functions = written(FOLDER / path).items()
    return {f"{module}.{name}" for name, each in functions if each.lineno <= line <= (each.end_lineno or 0)}
