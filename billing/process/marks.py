"""Marks: what happened in this process and is not in the ledger yet: how often, and why at last.

The heartbeat writes them every 10 s, so that a flood of refused deliveries costs one row and no transaction of its own.
"""

import threading
from typing import NamedTuple

SIGNATURE_REFUSED = "signature_refused"  # a delivery that had a signature, and not one of ours
STRIPE_LIMITED = "stripe_limited"  # Stripe answered 429
KEY_REFUSED = "key_refused"  # Stripe answered 401 or 403
KEY_TAKEN = "key_taken"  # and then what we had asked for


class Mark(NamedTuple):
    """How often since it was last taken, and the last time's sentence."""

    times: int
    why: str


_marks: dict[str, Mark] = {}
_guard = threading.Lock()


def note(name: str, why: str, *, times: int = 1) -> None:
    with _guard:
        _marks[name] = Mark(_marks[name].times + times if name in _marks else times, why)


def take() -> dict[str, Mark]:
    """What was noted since the last call. Who cannot write it down notes it again."""
    with _guard:
        taken = dict(_marks)
        _marks.clear()
    return taken
