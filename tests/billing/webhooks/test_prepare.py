"""What a delivery is refused for: its signature, its size, and what is no event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InvalidEvent, InvalidSignature, PayloadTooLarge
from billing.webhooks.envelope import read_event
from billing.webhooks.ingest import expect, prepare
from tests.support.builders import NOON, SECRET, build_event, data_of, deliver
from tests.support.receiving import MAX_BYTES


@pytest.fixture
def refused(clock):
    """Deliver, and give the code of the refusal: pure, so that nobody is woken and the database not even asked."""

    def refused(error, event, **instead):
        body, header = deliver(event)
        header, secrets = instead.get("header", header), instead.get("secrets", [SECRET])
        at = {"now": clock.now(), "max_bytes": MAX_BYTES}
        with pytest.raises(error) as refusal:
            prepare(body, expect(len(body), header, **at), secrets=secrets, **at)
        return refusal.value.code

    return refused


def test_wrong_signature_is_refused_and_nothing_is_stored(refused):
    """WHK-2."""
    assert refused(InvalidSignature, build_event(), secrets=["whsec_other"]) == "invalid_signature"
    assert refused(InvalidSignature, build_event(), header=None) == "invalid_signature"


def test_replay_after_five_minutes_is_refused(refused, clock):
    """WHK-3, faults row 50."""
    clock.advance(seconds=301)
    assert refused(InvalidSignature, build_event()) == "invalid_signature"


def test_body_of_the_limit_is_taken_and_one_byte_more_is_not(refused, take):
    """WHK-1, faults row 54: by its size alone, before its signature is looked at."""
    body = json.dumps(build_event(padding="")).encode()
    fits = body.replace(b'"padding": ""', b'"padding": "' + b"x" * (MAX_BYTES - len(body)) + b'"')
    assert len(fits) == MAX_BYTES
    over = fits + b" "
    assert refused(PayloadTooLarge, over) == "payload_too_large"
    assert refused(PayloadTooLarge, over, header="rubbish") == "payload_too_large"
    assert take(fits) == "recorded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"1",
        b'"evt_1"',
        b"[]",
        b"{}",
        b"{",
        "\ufeff".encode() + json.dumps(build_event()).encode(),
        json.dumps(build_event()).encode() + b"x",
        json.dumps(build_event()).encode("utf-16"),
        data_of('"x"').replace(b'"x"', b'"\xff"'),
        data_of('"x"').replace(b'"x"', b'"\xed\xa0\x80"'),
        data_of("NaN"),
        data_of("-Infinity"),
        data_of("1e999"),
        data_of("1" * 5000),
        data_of("01"),
        data_of("1."),
        data_of(".5"),
        data_of("[1,]"),
        data_of("'x'"),
        data_of('"\t"'),
        data_of('"\\x41"'),
        data_of('"\\u00g0"'),
        data_of("[" * 100_000),
        data_of("[" * 100_000 + "]" * 100_000),
        data_of('{"a":' * 20_000 + "1" + "}" * 20_000),
        b"[" * 200_000,
        b"[" * 101 + b'"' + b'\\"' * 50_000,
        b"[" * 101 + b'"' + b'\\"' * 50_000 + b"\\",
    ],
    ids=lambda body: ascii(body[:20] + body[-30:]),
)
def test_signed_body_that_is_no_event_is_refused(refused, body):
    """WHK-6, WHK-78, faults rows 55 to 57."""
    assert refused(InvalidEvent, body) == "invalid_event"


@pytest.mark.parametrize(("depth", "fits"), [(100, True), (101, False)])
@pytest.mark.parametrize("around", ["", '"]]}}' + "[{" * 200 + '\\"",'], ids=["plain", "brackets-in-strings"])
def test_nesting_is_taken_to_a_hundred(refused, take, depth, fits, around):
    """WHK-6: brackets inside strings are no nesting."""
    inside = depth - 4  # the event, its data, the object, its metadata
    body = data_of("[" * inside + around + ("1" if around else "") + "]" * inside)
    if fits:
        assert take(body) == "recorded"
    else:
        assert refused(InvalidEvent, body) == "invalid_event"


@pytest.mark.parametrize(("depth", "fits"), [(100, True), (101, False)])
def test_nesting_is_looked_at_to_the_end_of_a_long_body(refused, take, depth, fits):
    """WHK-6: thousands of brackets that go as deep as may be come first."""
    deep = ["[" * (to - 5) + "]" * (to - 5) for to in (*[100] * 50, depth)]
    body = data_of(f"[{','.join(deep)}]")
    if fits:
        assert take(body) == "recorded"
    else:
        assert refused(InvalidEvent, body) == "invalid_event"


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 1},
        {"id": ""},
        {"id": "evt"},
        {"id": "evt_"},
        {"id": "evt_1\n"},
        {"id": "evt_\u0661"},
        {"id": "evt_../x"},
        {"id": "evt_" + "a" * 251},
        {"id": "e" * 300 + "_a"},
        {"id": "evt_\u0000"},
        {"type": None},
        {"type": ""},
        {"type": "a\u0000"},
        {"type": "a b"},
        {"type": "a\r\nb"},
        {"type": "\u001b[31m"},
        {"type": "x" * 256},
        {"created": None},
        {"created": True},
        {"created": 1.5},
        {"created": 10**30},
        {"created": -(10**14)},
        {"created": "yesterday"},
        {"livemode": None},
        {"livemode": 0},
        {"livemode": "false"},
        {"account": 7},
        {"account": "acct_"},
        {"account": "cus_1"},
        {"account": "acct_1\u0000"},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": {"object": None}},
        {"data": {"object": "sub_1"}},
    ],
    ids=lambda change: ascii(change)[:50],
)
def test_broken_envelope_is_refused(refused, change):
    """WHK-7, faults rows 66, 69 and 70."""
    assert refused(InvalidEvent, build_event(**change)) == "invalid_event"


@pytest.mark.parametrize("field", ["id", "type", "created", "livemode", "data"])
def test_envelope_without_a_field_is_refused(refused, field):
    """WHK-7."""
    event = build_event()
    del event[field]
    assert refused(InvalidEvent, event) == "invalid_event"


TOKENS = ["{", "}", "[", "]", ",", ":", '"', "\\", "u0", "0", "1", "-", ".", "e", "+", "null", "true", "NaN", " "]
TOKENS += ['"a"', '"k":', '"\\u0000"', '"\\ud800"', "1e5", "1e999", "-0", "99999999999999999999", "/", "a", "\t"]
TOKENS += ["\x00", "\u2028", "\u00a0"]


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8).map("".join))
def test_verdict_on_data_is_that_of_a_strict_parser(value):
    """WHK-6, WHK-8, faults row 57: neither is JSON lost, nor is anything else taken for it."""
    body = data_of(value)

    def refuse(number):
        raise ValueError(number)

    def finite(number):
        return float(number) if float(number) not in (float("inf"), float("-inf")) else refuse(number)

    try:
        event = json.loads(body, parse_constant=refuse, parse_float=finite)
        valid = isinstance(event.get("data"), dict) and isinstance(event["data"].get("object"), dict)
    except ValueError:
        valid = False
    try:
        read_event(body, now=NOON)
        taken = True
    except InvalidEvent:
        taken = False
    assert taken is valid
