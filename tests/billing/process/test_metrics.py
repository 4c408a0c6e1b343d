"""Counts in files: added up, and those of dead processes joined."""

import json
import os
import time
from pathlib import Path

from billing.process.metrics import DEAD_SECONDS, Family, FolderCollector, MetricsFile, add_up, files, join_dead, read

JOBS = {"name": "onelane_test_jobs", "text": "Jobs.", "type": "counter"}


def counted(kind: str, value: float) -> list[Family]:
    return [{**JOBS, "samples": [("onelane_test_jobs_total", {"kind": kind}, value)]}]


def test_same_name_and_labels_are_added_up() -> None:
    """API-52."""
    [family] = add_up([counted("a", 1), counted("b", 2), counted("a", 3)])
    samples = {labels["kind"]: value for _, labels, value in family["samples"]}
    assert samples == {"a": 4, "b": 2}


def test_files_of_dead_processes_become_one_and_no_count_is_lost(tmp_path: Path) -> None:
    """API-52: the sum stays, so that no counter falls."""
    for number in range(5):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(counted("a", number)))
        if number:  # the first one lives
            os.utime(file, (time.time() - DEAD_SECONDS - 1,) * 2)
    join_dead(tmp_path)
    left = files(tmp_path)
    assert len(left) == 2
    [family] = add_up(read(file) for file in left)
    assert family["samples"] == [("onelane_test_jobs_total", {"kind": "a"}, 10)]


def test_process_shows_its_own_counts_as_they_are_now(tmp_path: Path) -> None:
    """API-52: its file is not added to them."""
    own = MetricsFile(tmp_path)
    own.write()
    shown = {metric.name: metric for metric in FolderCollector(tmp_path, own).collect()}
    alone = {metric.name: metric for metric in FolderCollector(tmp_path / "empty", None).collect()}
    assert {name: metric.samples for name, metric in shown.items()} == {
        name: metric.samples for name, metric in alone.items()
    }
