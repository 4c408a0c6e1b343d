"""`make mutation`: change the code in small ways, and see whether a test notices each (docs/mutation.md).

ARGS: `sample SEED PERCENT` (60 mutants and that share of each package, in an order by the seed), or names as mutmut
writes them (`billing.checkout.rules.*`), or `again` (those that lived). Without any: all of them, which takes hours.
Stopped and started again, it goes on. `report` before the rest says what is known; `reach` asks the tests anew which
lines they reach.
"""

import fnmatch
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.mutation.changes import FOLDER, PACKAGES, read_change
from tests.mutation.checker import refused
from tests.mutation.forks import TOO_LATE, environment_of, judge, seconds_for
from tests.mutation.outcomes import Outcome, note, read
from tests.mutation.plans import Reach, read_hashes

FIRST = "billing.webhooks.signature.x_sign__*"  # mutmut writes all mutants before it runs one
MUTMUT = str(Path(sys.executable).with_name("mutmut"))
WRITTEN = FOLDER / "written"
OUTCOMES, REACH, PLAN = FOLDER / "outcomes.jsonl", FOLDER / "reach.json", FOLDER / "plan.json"
ON_BOTH = ("-n", "0", "-q", "-p", "tests.mutation.uncached", "-p", "no:cacheprovider", "-m", "not long")
UNTIL_ONE_FAILS = ("-x", "-s", "--tb=native", "--timeout", "60")
OPTIONS = (*ON_BOTH, "-k", "not postgresql")
_APP = [f"tests/app/test_{name}.py" for name in ("checkouts", "operations", "subscription", "webhooks")]
_FOLDERS = (*PACKAGES, "maintenance", "notifications", "operators", "rules", "stripe_gateway")
_OF_BILLING = (*_FOLDERS, "process/test_context_ids.py", "test_catalog.py")
TESTS = [
    *_APP,
    *(f"tests/billing/{name}" for name in _OF_BILLING),
    "tests/examples",
]


def main(arguments: list[str]) -> None:
    only_reports = arguments[:1] == ["report"]
    which = arguments[only_reports:]
    if not only_reports:
        prepare(anew=which == ["reach"])
    if which == ["reach"]:
        return
    hashes = read_hashes()
    names = choose(which, hashes)
    if not names:
        sys.exit("There is no such mutant.")
    asked = [name for name in names if not read_change(name).is_wording]
    if not only_reports:
        run(asked, hashes, again=which == ["again"])
    report(asked, len(names) - len(asked), read(OUTCOMES, hashes))


def prepare(*, anew: bool) -> None:
    """Write the mutants, copy the tests, and see which tests reach which line."""
    files = [path for place in ("billing", "sandbox", "app", "tests") for path in Path(place).rglob("*.py")]
    if not WRITTEN.exists() or max(path.stat().st_mtime for path in files) > WRITTEN.stat().st_mtime:
        # Whatever becomes of the one that it runs: that they are written is all.
        subprocess.run([MUTMUT, "run", "--max-children", "1", FIRST], stdout=subprocess.DEVNULL)
        WRITTEN.touch()
    if anew or not REACH.exists():
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-p", "tests.mutation.reach", *TESTS]
        subprocess.run(command, env=os.environ | {"MUTATION_REACH": str(REACH.resolve())})


def choose(which: list[str], hashes: dict[str, str]) -> list[str]:
    """The names of the mutants that are asked for."""
    known = list(hashes)
    match which:
        case ["sample", seed, percent]:
            return sample(known, seed, float(percent))
        case ["again"]:
            return [name for name, outcome in read(OUTCOMES, hashes).items() if not outcome.is_dead]
        case []:
            return known
        case patterns:
            return [name for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def sample(names: list[str], seed: str, percent: float) -> list[str]:
    """60 and `percent` of each package's mutants, so that a small package is judged too; any beginning is a sample.

    Drawn by name: where the code changes, all others stay in it.
    """
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    chosen: set[str] = set()
    for package in PACKAGES:
        of = [name for name in drawn if name.startswith(f"billing.{package}.")]
        chosen |= set(of[: 60 + int(len(of) * percent / 100)])
    return [name for name in drawn if name in chosen]


def run(names: list[str], hashes: dict[str, str], *, again: bool) -> None:
    """Run the tests against these; where that may not say enough, once more in a process of the mutant's own."""
    reach = Reach(REACH)
    known = {} if again else read(OUTCOMES, hashes)
    open_ = [name for name in names if name not in known or known[name].result == "lived"]
    typed = refused(open_) if open_ else set()
    # Of those that the type checker refuses it is known that they die: they come last.
    in_order = sorted((name for name in open_ if name not in known), key=typed.__contains__)
    plans = [reach.plan(name, hashes[name], every=again) for name in in_order]
    if plans:
        _pytest(plans, [*OPTIONS, *TESTS], {}).wait()
    ended = read(OUTCOMES, hashes)
    for outcome in [ended[name] for name in names if name in ended and not ended[name].alone]:
        change = read_change(outcome.name)
        unsure = outcome.result == "lived" and (reach.runs_at_import(change) or change.mentions_postgresql)
        if unsure or outcome.result == "stuck":
            run_alone(outcome, reach)
    ended = read(OUTCOMES, hashes)
    for name in typed:
        if name in ended and ended[name].result == "lived":
            note(OUTCOMES, replace(ended[name], result="types"))


def run_alone(before: Outcome, reach: Reach) -> None:
    """The process has the mutant from its imports on, so a statement that is built then is changed. On both databases
    where the function names PostgreSQL; what is built at import is met by any test of its module."""
    change = read_change(before.name)
    mutant = reach.plan(before.name, before.hash, of_module=reach.runs_at_import(change), every=True)
    if change.mentions_postgresql:
        mutant["tests"] += [test.replace("[sqlite", "[postgresql") for test in mutant["tests"] if "[sqlite" in test]
    mutant["tests"] = list(dict.fromkeys([*filter(None, [before.test]), *mutant["tests"]]))
    places = sorted({test.partition("::")[0] for test in mutant["tests"]})
    folder, began = Path(tempfile.mkdtemp(prefix="mutant-")), time.monotonic()
    with _pytest([mutant], [*ON_BOTH, *places], {"MUTANT_UNDER_TEST": before.name, **environment_of(folder)}) as tests:
        try:
            code = tests.wait(seconds_for(mutant))
        except subprocess.TimeoutExpired:
            tests.kill()
            code = TOO_LATE
    result, test = judge(code, folder)
    seconds = round(time.monotonic() - began, 1)
    note(OUTCOMES, Outcome(before.name, before.hash, result, test, seconds, alone=True))
    print(f"{before.name} {result} {seconds} s, alone", flush=True)


def report(asked: list[str], wording: int, known: dict[str, Outcome]) -> None:
    """Say what became of them."""
    ended = [known[name] for name in asked if name in known]
    died = Counter(outcome.result for outcome in ended if outcome.is_dead)
    print("\n".join(sorted(outcome.name for outcome in ended if not outcome.is_dead)))
    print(f"{len(asked) + wording} mutants, {wording} of them of wording alone. Of the {len(asked)} others:", end=" ")
    print(f"{len(ended)} run, {died.total()} died ({dict(died)}), {len(ended) - died.total()} lived.")
    if ended:
        also = wording * len(ended) / len(asked)  # if each of them were run, and lived
        print(f"{_of_100(died.total(), len(ended))} of 100 died;", end=" ")
        print(f"{_of_100(died.total(), len(ended) + also)} if wording counts as having lived.")
    print("`mutmut show NAME` says what one changes.")


def _of_100(part: int, whole: float) -> str:
    return f"{100 * part / whole:.1f}"


def _pytest(
    plans: list[dict[str, Any]], arguments: list[str], environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    PLAN.write_text(json.dumps(plans), "utf-8")
    files = {"MUTATION_PLAN": str(PLAN.resolve()), "MUTATION_OUTCOMES": str(OUTCOMES.resolve())}
    command = [sys.executable, "-m", "pytest", *UNTIL_ONE_FAILS, "-p", "tests.mutation.forks", *arguments]
    said = subprocess.DEVNULL if environment else None
    return subprocess.Popen(command, cwd=FOLDER, env=os.environ | files | environment, stdout=said, stderr=said)


if __name__ == "__main__":
    main(sys.argv[1:])
