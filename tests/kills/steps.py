"""The steps of a checkout at which workers die (checkout/steps.py), and how many of them are taken."""

import os

from tests.kills.world import World

FULL = os.environ.get("KILLS") == "full"  # every step, and production's times
CHANGES = ["4", "6", "8", "9", "11"]  # steps that are a compare-and-set
REPLACING = ("9", "10", "11")  # reached only where a buyer changes the plan


def prepared(world: World, user_id: str, step: str) -> tuple[str, int]:
    """A buyer for whom this step will be taken: the plan to ask for now, and the sessions made by the end."""
    if step not in REPLACING:
        return "standard", 1
    world.buy(user_id)
    return "commit", 2
