"""Logs: every line of ours and of the libraries, one event a line, on stdout (OPS-2, OPS-3, OPS-4).

JSON in production; with ONELANE_LOG=console (`onelane dev` sets it) a compact line for people. Secrets and personal
data are cut out of every line. It stays within 2 KB, and nothing in it can begin another line or paint the terminal.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from billing.process.settings import Settings

LINE_BYTES = 2048  # what every log collector takes whole
TRACEBACK_LINES = 24  # the end of a traceback says what happened
HIDDEN = "[hidden]"
FIRST = (
    "timestamp",
    "level",
    "event",
    "process",
    "request_id",
    "checkout_id",
    "operation_id",
    "customer_id",
    "error",
    "exception",
)

# The stripe SDK's info lines carry whole messages; the others say at INFO what our own events say better.
OURS = ("app", "billing", "worker", "onelane")
QUIET = ("stripe", "urllib3", "requests", "celery", "alembic", "_granian")

_SECRET_NAMES = frozenset({"authorization", "password", "secret", "token", "api_key", "email", "stripe_signature"})
# Each with what a text, in lower case, must have for the pattern to be worth a look: ten times faster for nearly all.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (("bear", "ba"), re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?"), HIDDEN),  # a JWT
    (("whsec_", "k_"), re.compile(r"\b(whsec|[srp]k_(?:live|test)|[sr]k)_[A-Za-z0-9_+/=-]{3,}"), rf"\1_{HIDDEN}"),
    # A page that takes money or shows a portal: whoever has the address is let in.
    (("://",), re.compile(r"(?i)https?://(?:checkout|billing|pay)\.stripe\.com/[^\s\"'<>]*"), HIDDEN),
    (("://",), re.compile(r"(?i)https?://[^\s\"'<>]*/[^\s\"'<>]*\b(?:cs|bps)_[^\s\"'<>]*"), HIDDEN),
    # redis://:password@host
    (("://",), re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@\"']*@"), rf"\1{HIDDEN}@"),
    (("@",), re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), HIDDEN),
)
_encode = json.JSONEncoder(default=str).encode  # json.dumps makes a new one for each line
_LONG_NUMBER = re.compile(r"\d[\d -]{12}")
_CARD = re.compile(r"(?<!\w)(?<!\d\.)\d(?:[ -]?\d){12,18}(?!\w|\.\d)")
# What starts a line, ends one, or is read by a terminal: C0 and C1 controls, line and paragraph separators.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def configure_logging(settings: Settings, *, process: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to stdout, or a command's to its own stream: in words on a terminal.

    `process` names it: web, worker, beat, cli.
    """
    secrets = known_secrets(settings)
    console = os.environ.get("ONELANE_LOG") == "console" or (stream is not None and stream.isatty())
    root = logging.getLogger()
    root.handlers = [log_handler(stream or sys.stdout, process=process, secrets=secrets, console=console)]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(level, logging.INFO))  # below it, libraries say what nobody reads
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def log_handler(stream: TextIO, *, process: str, secrets: tuple[str, ...] = (), console: bool) -> logging.Handler:
    """Give the handler that writes bounded, redacted lines to a stream."""

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: redacted(name, value, secrets) for name, value in event.items()}

    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        return console_line(event) if console else json_line({"process": process, **event})

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                render,
            ],
        )
    )
    return handler


def known_secrets(settings: Settings) -> tuple[str, ...]:
    """Give this process' own secrets, to be cut out wherever they turn up, whatever their form."""
    given = (getattr(settings, name) for name in type(settings).model_fields)
    every = [one for value in given for one in (value if isinstance(value, tuple) else (value,))]
    # Under 6 characters a "secret" is a word: hiding it would only make the log unreadable.
    secrets = [one.get_secret_value() for one in every if isinstance(one, SecretStr)]
    return tuple(secret for secret in secrets if len(secret) >= 6)


def redact_text(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Cut out secrets, addresses that are bearer secrets, emails and card numbers."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    lower = text.lower()
    for marks, pattern, replacement in _PATTERNS:
        for mark in marks:
            if mark in lower:
                text = pattern.sub(replacement, text)
                break
    if not _LONG_NUMBER.search(text):
        return text
    return _CARD.sub(lambda match: HIDDEN if _is_card(match[0]) else match[0], text)


def json_line(event: Mapping[str, Any]) -> str:
    """Render one event as one line of JSON (ASCII, so that controls are escaped) within LINE_BYTES."""
    event = {name: event[name] for name in (*FIRST, *event) if name in event}
    while len(line := _encode(event)) > LINE_BYTES:
        longest = max(event, key=lambda name: len(json.dumps(event[name], default=str)))
        if len(json.dumps(event[longest], default=str)) < 64:  # very many fields: keep those that come first
            event.popitem()
            continue
        text = event[longest] if isinstance(event[longest], str) else json.dumps(event[longest], default=str)
        keep = len(text) - max(len(text) // 4, min(len(text) // 2, len(line) - LINE_BYTES))
        # Of a traceback the end says what happened, of everything else the beginning.
        event[longest] = "…" + text[-keep:] if longest == "exception" else text[:keep] + "…"
    return line


def console_line(event: Mapping[str, Any]) -> str:
    """Render one event for a person: time, level when it matters, event, fields; a traceback below it."""
    event = dict(event)
    time = str(event.pop("timestamp", ""))[11:19]
    level = str(event.pop("level", "info"))
    exception = event.pop("exception", None)
    event.pop("logger", None)
    words = [time, *([] if level in ("info", "debug") else [level.upper()]), _escaped(event.pop("event", ""))]
    words += [f"{_escaped(name)}={_quoted(value)}" for name, value in event.items()]
    line = " ".join(words)
    lines = [line if len(line) <= LINE_BYTES else line[: LINE_BYTES - 1] + "…"]
    if exception:
        lines += [f"    {_escaped(part)[:400]}" for part in str(exception).splitlines()[-TRACEBACK_LINES:]]
    return "\n".join(lines)


def _escaped(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def _quoted(value: Any) -> str:
    """Quote what would otherwise read as several fields."""
    text = _escaped(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' ="') else text


def redacted(name: str, value: Any, secrets: tuple[str, ...]) -> Any:
    """Redact a field, into lists and mappings; what is no plain value becomes text first."""
    if value is None or isinstance(value, bool | float):
        return value
    if name.lower() in _SECRET_NAMES and value:
        return HIDDEN
    if isinstance(value, int):
        return HIDDEN if value >= 10**12 and _is_card(str(value)) else value
    if isinstance(value, Mapping):
        return {redact_text(str(key), secrets): redacted(str(key), item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted("", item, secrets) for item in value]
    return redact_text(value if isinstance(value, str) else str(value), secrets)


def _is_card(text: str) -> bool:
    """Whether 13 to 19 digits end in the right check digit (Luhn), as payment cards do."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("onelane").critical("process.crashed", exc_info=(kind, error, trace))


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
