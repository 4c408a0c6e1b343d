"""What ids look like: Stripe's, the only parts of a payload that become columns, queries or paths; ours; a user's."""

import re
import uuid

MAX_ID = 255  # the width of the columns
MAX_USER_ID = 200  # of an application's user
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


def storable(text: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold this text."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def is_user_id(value: object) -> bool:
    """Whether this can be a user's id: 1 to 200 printable characters (API-12)."""
    # U+FFFD stands for bytes that were no UTF-8: two different ids would become one.
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_USER_ID
        and value.isprintable()
        and storable(value)
        and "\ufffd" not in value
    )
