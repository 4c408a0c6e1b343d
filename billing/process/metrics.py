"""Counts of all processes: each writes its own into METRICS_DIR, and the web adds them up (API-52).

prometheus_client has files for that, too, which it maps into memory: where the disk is full, the kernel ends the
process (SIGBUS). Here a disk that is full, a folder that is missing or a file that is cut off costs counts and nothing
else (OPS-130). What a killed process counted in its last WRITE_SECONDS is lost.
"""

import atexit
import fcntl
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

import msgspec
import structlog
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

WRITE_SECONDS = 2.0
# A file that nobody wrote for a day is a dead process'. All of those are added up in one, so that they stay few.
DEAD_SECONDS = 86_400
OURS = "onelane_"
Sample = tuple[str, dict[str, str], float]  # its name, labels and value


class Family(TypedDict):
    """The samples of one metric."""

    name: str
    text: str
    type: str
    samples: list[Sample]


class MetricsFile:
    """The file of this process, written every WRITE_SECONDS by a thread and at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / f"{uuid4().hex}.json"
        self._failed = False

    def keep_writing(self) -> None:
        join_dead(self.folder)
        self.write()
        atexit.register(self.write)
        threading.Thread(target=self._write_for_ever, name="metrics", daemon=True).start()

    def write(self) -> None:
        """Write what this process counted, whole or not at all. Never raises; says once that it cannot."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self.path, families())
        except OSError as error:
            if not self._failed:
                log.error(  # noqa: TRY400  # no traceback: the sentence says it all
                    "metrics.not_written",
                    error=error.strerror,
                    sentence=f"METRICS_DIR cannot be written ({error.strerror}). Make room there; all else goes on.",
                )
            self._failed = True
        else:
            if self._failed:
                log.info("metrics.written_again")
            self._failed = False

    def _write_for_ever(self) -> None:
        while True:
            time.sleep(WRITE_SECONDS)
            self.write()


class FolderCollector(Collector):
    """What all processes counted: the files of the others, and this process as it is now."""

    def __init__(self, folder: Path, own: MetricsFile | None) -> None:
        self._folder, self._own = folder, own

    def collect(self) -> Iterator[Metric]:
        own = self._own.path if self._own else None
        with _shared(self._folder):
            others = [file for file in files(self._folder) if file != own]
            merged = add_up([families(), *(read(file) for file in others)])
        for family in merged:
            metric = Metric(family["name"], family["text"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric


def families() -> list[Family]:
    """What this process counted."""
    return [
        {
            "name": metric.name,
            "text": metric.documentation,
            "type": metric.type,
            "samples": [
                (one.name, dict(one.labels), one.value) for one in metric.samples if not one.name.endswith("_created")
            ],
        }
        for metric in REGISTRY.collect()
        if metric.name.startswith(OURS)
    ]


def add_up(all_families: Iterable[Iterable[Family]]) -> list[Family]:
    """One family of each name, its samples added up by name and labels."""
    merged: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for process in all_families:
        for family in process:
            merged.setdefault(family["name"], family)
            sums = values.setdefault(family["name"], {})
            for name, labels, value in family["samples"]:
                key = (name, tuple(sorted(labels.items())))
                sums[key] = sums.get(key, 0.0) + value
    return [
        {**family, "samples": [(key, dict(labels), value) for (key, labels), value in values[name].items()]}
        for name, family in merged.items()
    ]


def files(folder: Path) -> list[Path]:
    """The files below the folder; none where it cannot be read."""
    try:
        return sorted(folder.rglob("*.json"))
    except OSError:
        return []


def read(file: Path) -> list[Family]:
    """What a process wrote; nothing where the file is empty, cut off or not ours."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[Family])
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        return []
    return [family for family in found if family["name"].startswith(OURS)]


def join_dead(folder: Path) -> None:
    """Replace the files of dead processes by one. Never raises; one process at a time, and nobody reads meanwhile."""
    try:
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            oldest = time.time() - DEAD_SECONDS
            dead = [file for file in files(folder) if file.stat().st_mtime < oldest]
            if len(dead) < 2:
                return
            _write(folder / f"{uuid4().hex}.json", add_up(read(file) for file in dead))
            for file in dead:
                file.unlink()
    except OSError:
        return  # taken, missing or full: the next process that starts does it


def _write(path: Path, found: list[Family]) -> None:
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(found), "utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """Keep dead files from being joined while they are read; without a lock file they are read all the same."""
    try:
        lock = (folder / "lock").open("r")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
