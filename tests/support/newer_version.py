"""The next version of ours, as far as a ledger can tell: one more migration, which adds a column and a table."""

import os
from pathlib import Path

from billing.database.migrations import compatibility

MIGRATION = '''
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
minimum_version = "{minimum}"


def upgrade() -> None:
    """Go forward."""
    op.add_column("events", sa.Column("more", sa.Text()))
    op.create_table("more", sa.Column("id", sa.Integer(), primary_key=True))
'''


def newer_version(folder: Path, *, minimum: str) -> tuple[Path, ...]:
    """Write it into the folder; what VERSIONS is there."""
    head = max(path.name[:4] for path in compatibility.VERSIONS[0].glob("[0-9]*.py"))
    hidden = folder / f"more-{os.getpid()}"  # several programs of the next version may write it
    hidden.write_text(MIGRATION.format(head=head, minimum=minimum), "utf-8")
    hidden.rename(folder / "9999_more.py")
    return (*compatibility.VERSIONS, folder)
