"""Signed deliveries that hypothesis makes up: recorded, or refused as no event, and never anything else.

Made from an event of Stripe's: any value is put anywhere in it, or its bytes are cut and pasted.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.errors import InvalidEvent
from billing.models import EventStatus
from billing.webhooks.envelope import read_data, read_event
from tests.support.builders import NOON, SECRET, MovableClock, build_event, deliver
from tests.support.receiving import receive

# 1e999 and NaN are written as such, half surrogate pairs as they stand.
ANY = st.text(st.characters(), max_size=5) | st.sampled_from(["cus_1", "acct_1", "evt_\x00", "", "v2.core.event", "0"])
EXTREMES = st.sampled_from(
    [-1, 10**25, 2**63, -(2**62), 253402300800, 1e300, float("nan"), "9999-12-31T23:59:59-12:00"]
)
NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=5,
)
PLACES = (
    *(("id",), ("object",), ("type",), ("created",), ("livemode",), ("account",), ("data",), ("related_object",)),
    *(("data", name) for name in ("object", "previous_attributes")),
    *(("data", "object", name) for name in ("id", "object", "customer", "metadata", "items")),
)
CHANGES = st.dictionaries(st.sampled_from(PLACES), EXTREMES | VALUES, min_size=1, max_size=2)
PIECES = st.sampled_from(
    [b"", b'"', b"{", b"}", b"[", b"\\u0000", b"\\", b"\xff", b"\x00", b"1e999", b"9" * 5000, b","]
)
CUTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 30), PIECES | st.binary(max_size=4)), max_size=3)

fuzz = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def bodies(draw: Callable[..., Any]) -> bytes:
    """The bytes of a delivery."""
    made = build_event(id="evt_1")
    for place, value in draw(CHANGES).items():
        _put(made, place, value)
    body = json.dumps(made, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for at, length, piece in draw(st.just([]) | CUTS):
        body = body[:at] + piece + body[at + length :]
    return body


def _put(into: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for name in place[:-1]:
        inner = into[name] if isinstance(into.get(name), dict) else {}
        into[name] = into = inner
    into[place[-1]] = value


@settings(fuzz, max_examples=600)
@given(body=bodies())
def test_made_up_body_is_an_event_or_none(body: bytes) -> None:
    """WHK-6, WHK-8; faults rows 55, 56 and 69: nothing but InvalidEvent, and what is an event can be read again."""
    try:
        read = read_event(body, now=NOON)
    except InvalidEvent:
        event("refused")
        return
    event("an event")
    assert read.payload == body
    for column in (read.event_id, read.type, read.account, read.customer_id or "", read.object_id or ""):
        assert column.isascii()
        assert column.isprintable()
        assert len(column) <= 255
    assert isinstance(read.status, EventStatus)
    if read.status is EventStatus.PENDING:
        assert isinstance(read_data(body), Mapping)


@settings(fuzz, max_examples=60)
@given(body=bodies())
def test_made_up_delivery_is_recorded_or_refused(
    body: bytes, database: Database, queue: InlineQueue, clock: MovableClock
) -> None:
    """WHK-6, WHK-8; faults rows 55, 56 and 69: no column of either database refuses what the envelope let through."""
    signed, header = deliver(body, at=clock.now())
    try:
        answer = receive(
            signed, header, secrets=[SECRET], database=database, queue=queue, clock=clock, max_bytes=1024 * 1024
        )
    except InvalidEvent:
        return
    assert answer in ("recorded", "duplicate")
