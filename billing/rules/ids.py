"""What Stripe's ids look like: the only parts of a payload that become columns, queries or paths. And ids of ours."""

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
REFUND = re.compile("(re|pyr)" + _REST)
DISPUTE = re.compile("(du|dp)" + _REST)
OBJECT = re.compile("[a-z]{1,20}" + _REST)


def id_like(pattern: re.Pattern[str], value: object) -> str | None:
    """The value, if the whole of it is such an id; or the id of the object that Stripe expanded in its place."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) and len(found) <= MAX_ID and pattern.fullmatch(found) else None


def new_id(prefix: str) -> str:
    """An id of ours that nobody can guess: `chk_` and 32 hexadecimal digits, say."""
    return f"{prefix}_{uuid.uuid4().hex}"
