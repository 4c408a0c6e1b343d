"""What Stripe's ids look like: the only parts of a payload that become columns, queries or paths. And names of ours."""

import os
import random
import re
import uuid

MAX_ID = 255  # the width of the columns
_REST = r"_[A-Za-z0-9_]{1,250}"

EVENT = re.compile(r"[a-z0-9_]+" + _REST)
ACCOUNT = re.compile("acct" + _REST)
CUSTOMER = re.compile("cus" + _REST)
SUBSCRIPTION = re.compile("sub_(?!sched_)[A-Za-z0-9_]{1,250}")
SESSION = re.compile("cs" + _REST)
SCHEDULE = re.compile("sub_sched" + _REST)
INVOICE = re.compile("in" + _REST)
CHARGE = re.compile("(ch|py)" + _REST)
PAYMENT_INTENT = re.compile("pi" + _REST)
DISPUTE = re.compile("(du|dp)" + _REST)
OBJECT = re.compile("[a-z]{1,20}" + _REST)


def id_like(pattern: re.Pattern[str], value: object) -> str | None:
    """The value, if the whole of it is such an id; or the id of the object that Stripe expanded in its place."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) and len(found) <= MAX_ID and pattern.fullmatch(found) else None


def unique_name() -> uuid.UUID:
    """A random UUID for what is told apart in logs and queues; never for what nobody may guess, or Stripe goes by.

    uuid4 asks the system, and lets go of the interpreter meanwhile: in a busy process, it takes longer to get it back.
    """
    return uuid.UUID(int=_names.getrandbits(128), version=4)


# Not the one that everybody shares: a handler that calls random.seed(0) would make two workers' names equal.
_names = random.Random()  # noqa: S311  # no secret
os.register_at_fork(after_in_child=_names.seed)
