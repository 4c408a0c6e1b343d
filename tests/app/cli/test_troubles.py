"""Eight troubles of an operator: from `onelane report` to the cause and what mends it, in three commands (OPS-184).

What decides is real: the ledger, Valkey, a sandbox over HTTP, the gateway, and workers and beat as processes.
"""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from billing.models import outbox
from tests.support import troubles_world as world
from tests.support.builders import SECRET
from tests.support.running_dev import onelane, wait_until
from tests.support.troubles_world import SAID, Place, place_in


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as place:
        yield place


def run(place: Place, line: str) -> "subprocess.CompletedProcess[str]":
    """A command line as it was shown, with a reason where it asks for one."""
    assert line.startswith("onelane "), line
    words = shlex.split(line.partition("  (")[0].replace("--reason ...", "--reason 'a call at three'"))[1:]
    return onelane(*words, folder=place.folder, **place.settings)


def report(place: Place) -> str:
    return run(place, "onelane report").stdout


def until_well(place: Place, words: str) -> None:
    """Until the report does not say so any more."""
    wait_until(lambda: words not in " ".join(report(place).split()), lambda: report(place), 60)


def follow(place: Place, line: str, *said: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line that was shown; what it says of the cause or of the end."""
    ended = run(place, line)
    for words in said:
        shown = " ".join(ended.stdout.split())
        assert words in shown, (line, ended.stdout, ended.stderr)
    return ended


def worst(place: Place, words: str) -> str:
    """Step one: the report begins with this; the command below it."""
    shown = report(place)
    lines = shown.splitlines()
    assert any(line.startswith("  onelane ") for line in lines), shown
    end = next(number for number, line in enumerate(lines) if line.startswith("  onelane "))
    assert words in " ".join(lines[:end]), shown
    return lines[end].strip()


def no_worker(place: Place) -> None:
    checkout_id = world.no_worker(place)
    command = worst(place, SAID["no_worker"])
    place.wake()
    place.start(command)
    until_well(place, SAID["no_worker"])
    wait_until(lambda: place.has_a_page(checkout_id), place.log)


def no_beat(place: Place) -> None:
    world.no_beat(place)
    place.start(worst(place, SAID["no_beat"]))
    until_well(place, SAID["no_beat"])


def secret_rolled(place: Place) -> None:
    world.secret_rolled(place)
    command = worst(place, SAID["secret_rolled"])
    said = ("Put the signing secret that Stripe shows for the endpoint", "STRIPE_WEBHOOK_SECRETS, and restart")
    follow(place, command, *said)
    world.receive_signed_anew(place, [SECRET, world.NEW_SECRET])
    until_well(place, SAID["secret_rolled"])


def dead_event(place: Place) -> None:
    world.dead_event(place)
    command = worst(place, SAID["dead_event"])
    shown = follow(place, command, "Stripe refused").stdout
    place.worker()
    follow(place, f"{shown.splitlines()[-1]} --yes --wait 60", "done")
    until_well(place, "given up")
    follow(place, "onelane customers show user_1", "access.granted True")


def stripe_at_429(place: Place) -> None:
    checkout_id = world.stripe_at_429(place)
    command = worst(place, SAID["stripe_at_429"])
    follow(place, command, "stripe_unavailable", "pending_checkouts", "user_1")
    place.shop.sandbox.faults.clear()
    place.wake()
    place.worker()
    wait_until(lambda: place.has_a_page(checkout_id), place.log, 60)


def duplicate_subscription(place: Place) -> None:
    customer, first, second = world.duplicate_subscription(place)
    command = worst(place, SAID["duplicate_subscription"])
    shown = follow(place, command, first, second, "9.00 USD").stdout
    [keep] = [line for line in shown.splitlines() if f"--keep {first}" in line]
    place.worker()
    ended = follow(place, f"{keep} --yes --wait 60", "is resolved: one is live, and the money of the others is back.")
    assert (ended.returncode, place.shop.live(customer)) == (0, [first])
    assert place.shop.refunded(second) > 0
    until_well(place, "incident waits")


def endpoint_down(place: Place) -> None:
    world.endpoint_down(place)
    command = worst(place, SAID["endpoint_down"])
    assert follow(place, command, "delivered False", "status 500").returncode == 1
    place.application.status = 204
    ended = follow(place, command, "delivered True", "status 204")
    place.worker()
    assert follow(place, f"{ended.stdout.splitlines()[-1]} --yes", "1 is due").returncode == 0
    wait_until(lambda: {row.status for row in place.shop.rows(outbox)} == {"delivered"}, place.log)
    [row, *_] = place.shop.rows(outbox)
    assert [one["status"] for one in row.history] == [500, 204]
    until_well(place, "does not take changes")


def paid_without_access(place: Place) -> None:
    world.paid_without_access(place)
    assert "onelane customers show USER" in report(place), "all is well, but for the one who calls"
    shown = follow(place, "onelane customers show user_1", "access.granted False", "nothing is known that gives access")
    [command] = [line for line in shown.stdout.splitlines() if line.startswith("onelane customers sync")]
    place.worker()
    ended = follow(place, command, "changes subscription.activated", "access.granted True")
    assert ended.returncode == 0, ended.stderr


TROUBLES: list[Callable[[Place], None]] = [
    no_worker, no_beat, secret_rolled, dead_event, stripe_at_429, duplicate_subscription, endpoint_down,
    paid_without_access,
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: re.sub("_", " ", trouble.__name__))
def test_trouble_is_found_and_mended_within_three_commands(trouble: Callable[[Place], None], place: Place) -> None:
    """OPS-184"""
    trouble(place)


def test_every_trouble_is_tried() -> None:
    """OPS-184"""
    assert [trouble.__name__ for trouble in TROUBLES] == list(SAID)
