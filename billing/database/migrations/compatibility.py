"""Whether this version and a ledger fit together: each migration says which version may still run after it.

During a rolling deployment old processes work on the newer schema, and after a rollback they start on it. So a
migration that adds something keeps the `minimum_version` of the one before. What removes or renames comes in two
steps: a version that no longer uses it, and then one whose migration takes it away and raises the minimum.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine.reflection import Inspector

FOLDER = Path(__file__).parent
VERSIONS = (FOLDER / "versions",)
FIRST = "0014"  # before it nothing said what may run


class Fit(StrEnum):
    """How a ledger and this version fit together."""

    CURRENT = "ok"
    AHEAD = "newer than this version, which works with it"
    OLDER = "not current: run `onelane db upgrade`"
    TOO_NEW = "newer than this version, which it does not work with"

    @property
    def works(self) -> bool:
        """Whether this version may work on it."""
        return self in (Fit.CURRENT, Fit.AHEAD)


@dataclass(frozen=True, slots=True)
class Found:
    """What a ledger says: its schema's version, and the oldest version of ours for it."""

    fit: Fit
    version: str | None
    minimum: str | None

    @property
    def sentence(self) -> str:
        """What is wrong, for a person."""
        if self.fit is Fit.TOO_NEW:
            return (
                f"The ledger (DATABASE_URL) is newer than this version: its tables are of {self.version}, and need "
                f"{self.minimum} or newer; this is {_scripts(VERSIONS)[0]}. Run the newer image, or put back the "
                "backup from before its migration."
            )
        return "The ledger (DATABASE_URL) lacks this version's tables. Run `onelane db upgrade`."


def look_up(connection: sa.Connection) -> Found:
    """Compare this version with the ledger of this connection."""
    inspector: Inspector = sa.inspect(connection)
    if not inspector.has_table("alembic_version"):
        return Found(Fit.OLDER, None, None)
    row = connection.exec_driver_sql("SELECT * FROM alembic_version").mappings().first()
    if row is None:
        return Found(Fit.OLDER, None, None)
    version, minimum = row["version_num"], row.get("minimum_version")
    head, known = _scripts(VERSIONS)
    if version == head:
        fit = Fit.CURRENT
    elif version in known:
        fit = Fit.OLDER
    else:
        fit = Fit.AHEAD if minimum is not None and minimum <= head else Fit.TOO_NEW
    return Found(fit, version, minimum)


def note_minimum(connection: sa.Connection) -> None:
    """Write down, after the migrations, which versions of ours may run on their schema."""
    scripts = ScriptDirectory.from_config(config())
    minimum = max(getattr(script.module, "minimum_version", FIRST) for script in scripts.walk_revisions())
    connection.execute(sa.text("UPDATE alembic_version SET minimum_version = :minimum"), {"minimum": minimum})


def config(connection: sa.Connection | None = None) -> Config:
    found = Config()
    found.set_main_option("script_location", str(FOLDER))
    found.set_main_option("path_separator", "newline")
    found.set_main_option("version_locations", "\n".join(map(str, VERSIONS)))
    found.attributes["connection"] = connection
    return found


@cache
def _scripts(versions: tuple[Path, ...]) -> tuple[str, frozenset[str]]:
    """This version's newest migration, and all of them. `versions` is VERSIONS."""
    scripts = ScriptDirectory.from_config(config())
    return str(scripts.get_current_head()), frozenset(script.revision for script in scripts.walk_revisions())
