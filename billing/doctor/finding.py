"""A finding of `onelane doctor`: one line that says what is wrong and how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from billing.errors import LedgerMisconfigured, OnelaneError, TransientError


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    UNAVAILABLE = "unavailable"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of `onelane doctor`."""

    subject: str
    verdict: Verdict
    sentence: str


def guarded(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error that ends it is the last one, and the other checks go on."""
    try:
        yield from check()
    except OnelaneError as error:
        waits = isinstance(error, TransientError) and not isinstance(error, LedgerMisconfigured)
        yield Finding(subject, Verdict.UNAVAILABLE if waits else Verdict.WRONG, error.for_operator)
    except Exception as error:  # noqa: BLE001  whatever is set up in a way that nobody thought of
        sentence = f"This could not be looked at ({type(error).__name__}). Report it, with the version of onelane."
        yield Finding(subject, Verdict.UNAVAILABLE, sentence)


def wrong(subject: str, sentence: str) -> Finding:
    """What keeps buyers or processes from their work."""
    return Finding(subject, Verdict.WRONG, sentence)


def warning(subject: str, sentence: str) -> Finding:
    """What works and has a consequence that a person should know."""
    return Finding(subject, Verdict.WARNING, sentence)


def fine(subject: str, sentence: str) -> Finding:
    """What is as it should be."""
    return Finding(subject, Verdict.OK, sentence)
