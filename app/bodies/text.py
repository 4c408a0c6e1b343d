"""What text may come in: what a database can hold, and what can be a user's id."""

MAX_USER_ID = 200


def storable(text: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold this text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


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
