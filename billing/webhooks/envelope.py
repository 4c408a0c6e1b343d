"""The envelope of an event: what every event has, and hints about whose it is. Pure.

Strict about the envelope and nothing more. A signed event that we refuse is lost, so nothing inside its data is a
reason to refuse, as long as it is JSON. The payload is kept as the bytes that came. Of the data only ids that look like
Stripe's become columns: a NUL or half a character there would fail the INSERT.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, NoReturn

import msgspec

from billing.errors import InvalidEvent
from billing.models import EventStatus
from billing.rules.ids import ACCOUNT, CUSTOMER, EVENT, OBJECT, id_like
from billing.webhooks.event_types import action_for, is_thin

MAX_DEPTH = 100
# 5 min: a worker whose clock is behind the web's takes it at once. Further off, a web refuses every signature (WHK-3).
DUE_BEFORE = timedelta(minutes=5)
THIN = "v2.core.event"

_TYPE = re.compile(r"[\x21-\x7e]{1,255}")  # v2 types have brackets in them
# One that is never closed goes to the end of the body: else each quote in it would be tried as another beginning.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\(?:.|\Z)[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_BEGINNING = 4096  # bytes


class NewEvent(msgspec.Struct, frozen=True):
    """What was read from a delivery, ready for the ledger; `payload` is the bytes that came."""

    account: str
    livemode: bool
    event_id: str
    type: str
    customer_id: str | None
    object_id: str | None
    status: EventStatus
    created_at: datetime
    received_at: datetime
    next_attempt_at: datetime
    payload: bytes
    request_id: str = ""  # of the delivery, for the log only


class Envelope(msgspec.Struct):
    """What is required of every event. `data` is read whole: skipped parts would not be checked to be JSON."""

    id: str
    type: str
    created: int | str
    livemode: bool
    object: Any = None
    account: str | None = None
    context: Any = None
    data: Any = None
    related_object: Any = None


def read_event(body: bytes, *, now: datetime, request_id: str = "") -> NewEvent:
    """Read the envelope of a signed body. Raises InvalidEvent."""
    envelope = _parse(body)
    if not id_like(EVENT, envelope.id):
        raise InvalidEvent("The event's id is not one of Stripe's.")
    if not _TYPE.fullmatch(envelope.type):
        raise InvalidEvent("The event's type is not one of Stripe's.")
    thin = envelope.object == THIN
    hints = _subject(envelope, thin)
    # A thin one of a type without the API's name, or the other way round: none that Stripe documents.
    followed = thin == is_thin(envelope.type) and action_for(envelope.type) is not None
    return NewEvent(
        account=_account(envelope, thin),
        livemode=envelope.livemode,
        event_id=envelope.id,
        type=envelope.type,
        customer_id=_customer_of(hints, "type" if thin else "object"),
        object_id=id_like(OBJECT, hints.get("id")),
        status=EventStatus.PENDING if followed else EventStatus.IGNORED,
        created_at=_time(envelope.created),
        received_at=now,
        next_attempt_at=now - DUE_BEFORE,
        payload=body,
        request_id=request_id,
    )


def read_data(payload: bytes) -> Mapping[str, Any]:
    """`data.object` of a stored payload, `related_object` of a thin one."""
    envelope = _parse(payload)
    return _subject(envelope, thin=envelope.object == THIN)


def _parse(body: bytes) -> Envelope:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidEvent("The body is not UTF-8.") from None
    if _too_deep(body):
        raise InvalidEvent(f"The body is nested deeper than {MAX_DEPTH}.")
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _parse_slowly(text)


def _parse_slowly(text: str) -> Envelope:
    """A second look by the standard library: msgspec refuses lone surrogates, which we keep as they came."""
    try:
        raw = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        return msgspec.convert(raw, Envelope)
    except (msgspec.ValidationError, RecursionError, ValueError):
        raise InvalidEvent("The body is not a JSON object with id, type, created and livemode.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("out of range")
    return value


# float_hook: msgspec's own way to read a float takes 90 µs where its exponent is large, Python's one.
_decode = msgspec.json.Decoder(Envelope, float_hook=_finite).decode


def _too_deep(body: bytes) -> bool:
    # Cheap first: with a hundred openings or fewer it cannot be deeper. What is deep in earnest shows at its beginning.
    few = body.count(b"{") + body.count(b"[") <= MAX_DEPTH
    return not few and any(_depth(part) > MAX_DEPTH for part in (body[:_BEGINNING], body))


def _depth(body: bytes) -> int:
    """How deep it goes, or so far as to be too deep. Strings may hold brackets: cut them out."""
    brackets, deepest, depth = _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS), 0, 0
    for start in range(0, len(brackets), _BEGINNING):
        steps = map(_STEPS.__getitem__, brackets[start : start + _BEGINNING])
        depths = list(accumulate(steps, initial=depth))
        deepest, depth = max(deepest, *depths), depths[-1]
        if deepest > MAX_DEPTH:
            break
    return deepest


def _subject(envelope: Envelope, thin: bool) -> Mapping[str, Any]:
    """The object that the event is about."""
    if thin:
        return envelope.related_object if isinstance(envelope.related_object, dict) else {}
    found = envelope.data.get("object") if isinstance(envelope.data, dict) else None
    if not isinstance(found, dict):
        raise InvalidEvent("The event has no data.object.")
    return found


def _account(envelope: Envelope, thin: bool) -> str:
    """Whose event it is, '' for our own; a thin one says it as the last part of a context such as `org_1/acct_1`."""
    context = envelope.context if thin else None
    path = str(context).split("/") if context is not None else []
    if not all(id_like(OBJECT, part) for part in path):
        raise InvalidEvent("The event's context is not one of Stripe's.")
    if envelope.account is not None and not id_like(ACCOUNT, envelope.account):
        raise InvalidEvent("The event's account is not one of Stripe's.")
    return envelope.account or "".join(path[-1:])


def _customer_of(subject: Mapping[str, Any], kind: str) -> str | None:
    return id_like(CUSTOMER, subject if subject.get(kind) == "customer" else subject.get("customer"))


def _time(created: int | str) -> datetime:
    """Seconds in snapshots, ISO 8601 in thin notifications."""
    try:
        if isinstance(created, str):
            return msgspec.convert(created, datetime).astimezone(UTC)
        return datetime.fromtimestamp(created, UTC)
    except (msgspec.ValidationError, ValueError, OverflowError, OSError):
        raise InvalidEvent("The event's created is no time.") from None
