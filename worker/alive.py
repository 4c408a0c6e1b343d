"""The file that shows that a loop turns: touched every few seconds, read by who supervises the process.

Where it cannot be touched, the work goes on: the supervisor decides what an old file means (OPS-131).
"""

from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class AliveFile:
    def __init__(self, path: Path | None) -> None:
        self._path, self._failed = path, False

    def touch(self) -> None:
        """Touch it, and make its folder. Never raises; says once that it cannot."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            if not self._failed:
                log.error("alive_file.not_touched", path=str(self._path), error=error.strerror)  # noqa: TRY400
            self._failed = True
        else:
            self._failed = False
