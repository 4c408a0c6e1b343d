"""Statements about now: built once, with each moment as a parameter."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa


class Moment:
    """So long after now or before, as a parameter of a statement that is built once."""

    def __init__(self, offset: timedelta, offsets: dict[str, timedelta]) -> None:
        self._offset, self._offsets = offset, offsets

    def __add__(self, more: timedelta) -> "Moment":
        return Moment(self._offset + more, self._offsets)

    def __sub__(self, less: timedelta) -> "Moment":
        return Moment(self._offset - less, self._offsets)

    def __clause_element__(self) -> sa.BindParameter[Any]:
        """What it is in SQL."""
        name = f"now_{self._offset // timedelta(milliseconds=1)}".replace("-", "less_")
        self._offsets[name] = self._offset
        return sa.bindparam(name)


class Prepared:
    """A statement about now: to build it takes ten times as long as to run it, so that is done once."""

    def __init__(self, build: Callable[[Any], sa.Executable]) -> None:
        self._offsets: dict[str, timedelta] = {}
        self._statement = build(Moment(timedelta(), self._offsets))

    def run(self, connection: sa.Connection, now: datetime, **values: object) -> sa.CursorResult[Any]:
        """Execute it with these values, too."""
        moments = {name: now + offset for name, offset in self._offsets.items()}
        return connection.execute(self._statement, {**moments, **values})
