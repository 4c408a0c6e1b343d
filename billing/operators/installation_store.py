"""The ledger of the installation: one row, written once."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.models import installation

ONLY_ROW = 1


def insert_first(connection: sa.Connection, *, stripe_account: str, livemode: bool, bound_at: datetime) -> bool:
    """Bind the ledger unless it is bound; whether it was done now."""
    values = {"id": ONLY_ROW, "stripe_account": stripe_account, "livemode": livemode, "bound_at": bound_at}
    return insert_new(connection, installation, values)


def read_row(connection: sa.Connection) -> dict[str, Any] | None:
    """The row, if there is one."""
    columns = (installation.c.stripe_account, installation.c.livemode, installation.c.bound_at)
    row = connection.execute(sa.select(*columns).where(installation.c.id == ONLY_ROW)).first()
    return None if row is None else dict(row._mapping)
