"""`make mutation`: change the code in small ways, and see whether a test notices each (docs/mutation.md).

ARGS: names as mutmut writes them (`billing.checkout.rules.*`), or `sample SEED PERCENT` (60 mutants and that share of
each package), or `again` (those that lived the last time). Without any: all of them, which takes hours.
"""

import fnmatch
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

PACKAGES = ("checkout", "customers", "duplicates", "operations", "subscriptions", "webhooks")
FIRST = "billing.checkout.rules.x_is_stale__*"  # mutmut writes all mutants and asks the tests once, whichever it runs
DIED = (
    1,
    3,
    -24,
    24,
    36,
    152,
    255,
)  # a test failed, or ran far longer than before: what mutmut calls killed and timeout
LIVED = (0,)
MUTMUT = str(Path(sys.executable).with_name("mutmut"))


def results() -> dict[str, int | None]:
    """The exit code of the tests for each mutant; None is one that has not been run."""
    codes: dict[str, int | None] = {}
    for meta in sorted(Path("mutants").rglob("*.meta")):
        codes |= json.loads(meta.read_text())["exit_code_by_key"]
    return codes


def sample(names: list[str], seed: int, percent: float) -> list[str]:
    """60 and `percent` of each package's mutants, so that a small package is judged too."""
    draw = random.Random(seed)
    chosen: list[str] = []
    for package in PACKAGES:
        of = sorted(name for name in names if name.startswith(f"billing.{package}."))
        chosen += draw.sample(of, min(len(of), 60 + int(len(of) * percent / 100)))
    return chosen


def run(names: list[str]) -> None:
    children = str(os.cpu_count() or 1)
    subprocess.run([MUTMUT, "run", "--max-children", children, *names], check=False)


def main(arguments: list[str]) -> None:
    if not results():
        run([FIRST])
    known = results()
    match arguments:
        case ["sample", seed, percent]:
            chosen = sample(list(known), int(seed), float(percent))
        case ["again"]:
            chosen = [name for name, code in known.items() if code in LIVED]
        case []:
            chosen = list(known)
        case patterns:
            chosen = [name for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        sys.exit("No mutant has such a name.")
    run(chosen)
    after = results()
    ends = Counter("died" if after[n] in DIED else "lived" if after[n] in LIVED else "not run" for n in chosen)
    print("\n".join(name for name in chosen if after[name] in LIVED))
    print(f"{len(chosen)} mutants: {dict(ends)}; `mutmut show NAME` says what one changes.")


if __name__ == "__main__":
    main(sys.argv[1:])
