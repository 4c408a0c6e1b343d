"""Every process refuses a URL that not all of its parts understand."""

from pathlib import Path

import pytest

from tests.support.running_dev import onelane


@pytest.mark.parametrize("command", ["web", "worker", "beat", "doctor"])
@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_unknown_parameter_stops_every_process_alike(command: str, name: str, tmp_path: Path) -> None:
    """OPS-120, OPS-1, faults row 102."""
    done = onelane(command, folder=tmp_path, **{name: "redis://:hidden@127.0.0.1:1/0?protocol=3"})
    assert done.returncode == 78
    begins, said = ("wrong settings ", done.stdout) if command == "doctor" else ("onelane: ", done.stderr)
    assert " ".join(said.split()).startswith(f"{begins}{name}: has the parameter 'protocol'")
    assert said.count("\n") == 1
    assert "hidden" not in done.stderr + done.stdout
