"""The real checkout code under many interleavings, without any customer lock. `make race` explores more.

`SEEDS=5000` runs so many seeds, `DELAYS=2` every run with two delays, `EVERY=1` all steps as `make race` does.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.races.explorer import Explorer, Scene

SEEDS = int(os.environ.get("SEEDS", "240"))  # a seed takes about 40 ms
DELAYS = int(os.environ.get("DELAYS", "1"))
EVERY = int(os.environ.get("EVERY", "2"))  # all steps of all scenes take five minutes
PARTS = 8  # so that two cores share the work

# What the depth-first search goes through: small scenes, since each delay more takes a hundred times as long.
SCENES = {
    "a newer plan while one session is open": Scene(plans=("commit",), opened=True),
    "the same again while one session is open": Scene(plans=("standard",), opened=True),
    "two buyers with two plans": Scene(plans=("commit", "standard"), opened=True, pays=False),
    "first checkouts": Scene(plans=("standard", "commit")),
    "an earlier system's session is paid": Scene(plans=("standard",), legacy=True),
    "lost expires": Scene(plans=("commit",), opened=True, lost_expires=2),
    "a worker that sleeps for a day": Scene(plans=("standard",), day=True, pays=False),
    "somebody in the Dashboard": Scene(plans=("standard",), opened=True, dashboard=True),
    "an operator ends the page": Scene(plans=("standard", "commit"), opened=True, person=True),
    "a buyer whose bank asks": Scene(plans=("commit",), opened=True, asked=True),
    "Stripe's events meanwhile": Scene(plans=("commit",), opened=True, webhooks=True),
    "orphaned sessions are swept meanwhile": Scene(plans=("commit",), opened=True, sweeps=True),
    "a backup is put back": Scene(plans=("standard",), restored=True, pays=False),
}
# And with operations: the buyer has a subscription, unless it says otherwise.
BOUGHT = Scene(plans=(), subscribed=True)
SCENES |= {
    "cancel, and think again": replace(BOUGHT, wishes=("cancel", "reactivate")),
    "switch, then cancel": replace(BOUGHT, wishes=("switch", "cancel")),
    "switch, and take it back": replace(BOUGHT, wishes=("switch", "undo")),
    "a switch to a price that Stripe lacks, then the portal": replace(
        BOUGHT, wishes=("switch", "portal"), lacks="commit"
    ),
    "a subscriber asks for another checkout and cancels": replace(BOUGHT, plans=("commit",), wishes=("cancel",)),
    "one who just pays cancels": Scene(plans=("commit",), opened=True, webhooks=True, wishes=("cancel",)),
    "cancel two": replace(BOUGHT, wishes=("cancel", "cancel"), second=True),
    "cancel while a duplicate is ended": replace(BOUGHT, wishes=("cancel",), duplicate=True),
    "a duplicate is paid back, by card and by credit": replace(BOUGHT, duplicate=True, credit=400),
    "a bank returns the refund of a duplicate": replace(BOUGHT, duplicate=True, refund_fails=True),
    "a subscriber of old is taken over, and asks for a checkout": Scene(plans=("standard",), taken_over="new"),
    "one whom events knew is taken over": Scene(plans=(), taken_over="known", webhooks=True),
    "switch, and a worker that sleeps for a day": replace(BOUGHT, wishes=("switch",), day=True, ports=True),
    "switch, and the period ends": replace(BOUGHT, wishes=("switch",), month=True),
}


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    """An explorer with a ledger of its own."""
    made = Explorer(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_no_interleaving_breaks_the_invariants(explorer: Explorer, part: int) -> None:
    """LAN-1, LAN-2, LAN-3, LAN-5, LAN-7, LAN-9, LAN-10, LAN-18, LAN-50, CHK-1, CHK-6, CHK-8, SUB-30 to SUB-37, SUB-39.

    Faults 9 to 18, 31 to 41.
    """
    for seed in range(part, SEEDS, PARTS):
        explorer.run(seed)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.timeout(3600)
def test_no_delay_anywhere_breaks_the_invariants(explorer: Explorer, name: str) -> None:
    """LAN-1, LAN-2, LAN-9, LAN-50, SUB-30 to SUB-37: whoever is made to wait at any step, and everybody else runs."""
    runs = sum(1 for _ in explorer.delayed(SCENES[name], DELAYS, every=EVERY))
    assert runs * EVERY > 20, "the scene has hardly any steps"


@pytest.mark.parametrize("name", SCENES)
def test_a_crash_at_any_step_is_recovered_from(explorer: Explorer, name: str) -> None:
    """LAN-9, LED-8, SUB-30; faults 9 to 17: I3, and that every state comes to rest."""
    runs = sum(1 for _ in explorer.crashed(SCENES[name], every=EVERY))
    assert runs * EVERY > 20, "the scene has hardly any steps"
