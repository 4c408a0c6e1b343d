"""What became of each mutant: a line for each run, in a file under mutants/. The last line holds."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the tests ended with a mutant: `failed`, `stuck` (in time) or `lived`, and which test it was.

    Or `types`: no test failed, and the type checker refuses it.
    """

    name: str
    hash: str  # of the function that it changes: an outcome holds for that source
    result: str
    test: str | None
    seconds: float
    alone: bool  # in a process of its own, which had the mutant from its imports on

    @property
    def is_dead(self) -> bool:
        """It was refused, or the tests came to no end twice: after a fork, and in a process of its own."""
        return self.result in ("failed", "types") or (self.result == "stuck" and self.alone)


def note(path: Path, outcome: Outcome) -> None:
    """Add a line. Short ones are written whole, also by several processes."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def read(path: Path, hashes: dict[str, str]) -> dict[str, Outcome]:
    """The last outcome of each mutant whose function is still the same."""
    lines: Iterable[str] = path.read_text("utf-8").splitlines() if path.exists() else ()
    found = {outcome.name: outcome for outcome in (Outcome(**json.loads(line)) for line in lines)}
    return {name: outcome for name, outcome in found.items() if hashes.get(name) == outcome.hash}
