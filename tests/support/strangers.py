"""What strangers, and a Stripe gone mad, may send to the webhook route: each kind by name, its bytes and its header.

One table for the tests (tests/app/test_webhook_strangers.py) and for the measurement (tests/bench/strangers.py).
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from billing.webhooks.signature import sign
from tests.support.builders import build_event

MAX_BYTES = 2**20
FINE = json.dumps(build_event(id="evt_stranger")).encode()
Header = Callable[[bytes, str, float], str | None]


class Kind(NamedTuple):
    """A request; `header` makes the signature header from the body, the secret and the time."""

    body: bytes
    header: Header
    status: int = 400


def _signed(body: bytes, secret: str, now: float) -> str:
    return sign(body, secret, now=now)


def _at(shift: float) -> Header:
    return lambda body, secret, now: sign(body, secret, now=now + shift)


def _says(text: str | None) -> Header:
    """The same header whatever the body is; `{t}` is the time, `{v1}` the right signature."""

    def header(body: bytes, secret: str, now: float) -> str | None:
        time, _, digest = sign(body, secret, now=now).partition(",v1=")
        return text and text.replace("{t}", time.removeprefix("t=")).replace("{v1}", digest)

    return header


def inside(value: bytes) -> bytes:
    """An event with this in its data."""
    return FINE.replace(b'"data": {', b'"data": {"x": ' + value + b", ", 1)


HEADERS: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "blank": " ",
    "5,000 characters": "x" * 5000,
    "5,000 of a good one": "t={t},v1={v1}," + "v0=" + "a" * 5000,
    "Latin-1": "t={t},v1=\u00e9",
    "other letters in a digest": "t={t},v1=" + "\u00aa" * 64,
    "no time": "v1={v1}",
    "no digest": "t={t}",
    "two times": "t={t},t={t},v1={v1}",
    "an older scheme": "t={t},v0={v1}",
    "eleven digests": "t={t}" + ",v1={v1}" * 11,
    "upper case": "t={t},V1={v1}",
    "a digest in upper case": "t={t},v1=" + "A" * 64,
    "a short digest": "t={t},v1=abc",
    "a digest that is none": "t={t},v1=" + "g" * 64,
    "a comma at the end": "t={t},v1={v1},",
    "blanks": "t={t}, v1={v1}",
    "a time below nothing": "t=-1,v1={v1}",
    "a time of 13 digits": "t=1{t}00,v1={v1}",
    "a time of 4,000 digits": "t=" + "9" * 4000 + ",v1={v1}",
    "a time in superscript": "t=\u00b9\u00b2,v1={v1}",
    "a time with an underscore": "t=1_0,v1={v1}",
    "a forged digest": "t={t},v1=" + "0" * 64,
}
BODIES: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a number": b"1e999",
    "a list": b"[]",
    "an empty object": b"{}",
    "cut off": FINE[:-3],
    "with more behind it": FINE + b"x",
    "two values": FINE + FINE,
    "a byte order mark": b"\xef\xbb\xbf" + FINE,
    "UTF-16": FINE.decode().encode("utf-16"),
    "UTF-32": FINE.decode().encode("utf-32"),
    "no UTF-8": inside(b'"\xff"'),
    "overlong UTF-8": inside(b'"\xc0\x80"'),
    "a surrogate in UTF-8": inside(b'"\xed\xa0\x80"'),
    "no UTF-8 at the end of a megabyte": inside(b'"' + b"a" * 1_000_000 + b'\xff"'),
    "100,000 brackets": b"[" * 100_000,
    "a megabyte of brackets": b"[" * 1_048_000,
    "100,000 deep in the data": inside(b"[" * 100_000 + b"]" * 100_000),
    "100,000 objects deep": inside(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "101 deep": inside(b"[" * 99 + b"]" * 99),
    "quotes that are never closed": FINE[:-1] + b', "x": ' + b"[" * 101 + b'"' + b'\\"' * 500_000,
    "backslashes to the end": FINE[:-1] + b', "x": ' + b"[" * 101 + b'"' + b"\\" * 1_000_001,
    "5,000 digits": inside(b"9" * 5000),
    "a million digits": inside(b"9" * 1_000_000),
    "1e999": inside(b"1e999"),
    "many numbers, and 1e999": inside(b"[" + b"1.5e300," * 20_000 + b"1e999]"),
    "NaN": inside(b"NaN"),
    "minus infinity": inside(b"-Infinity"),
    "an id of other letters": FINE.replace(b"evt_stranger", "evt_\u0661".encode()),
    "an id with a path": FINE.replace(b"evt_stranger", b"evt_../../x"),
    "an id with a NUL": FINE.replace(b"evt_stranger", b"evt_\\u0000"),
    "an id with half a character": FINE.replace(b"evt_stranger", b"evt_\\ud800"),
    "a type with a line break": FINE.replace(b"customer.subscription.updated", b"a\\r\\nb"),
    "a time that is none": FINE.replace(b'"created": ', b'"created": 1e3', 1),
    "a time beyond all times": json.dumps(build_event(created=10**30)).encode(),
    "a mode in words": json.dumps(build_event(livemode="false")).encode(),
    "no object": json.dumps(build_event(data=[])).encode(),
    "a thin one of nobody's account": json.dumps(build_event(object="v2.core.event", context="../x")).encode(),
}

KINDS: dict[str, Kind] = {
    **{f"header: {name}": Kind(FINE, _says(text)) for name, text in HEADERS.items()},
    "header: of another secret": Kind(FINE, lambda body, _secret, now: sign(body, "whsec_other", now=now)),
    "header: of another body": Kind(FINE, lambda body, secret, now: sign(body + b" ", secret, now=now)),
    "header: five minutes old": Kind(FINE, _at(-302)),
    "header: five minutes ahead": Kind(FINE, _at(302)),
    **{f"signed: {name}": Kind(body, _signed) for name, body in BODIES.items()},
    **{
        f"forged: {name}": Kind(BODIES[name], _says("t={t},v1=" + "0" * 64))
        for name in ("no UTF-8", "100,000 brackets", "a megabyte of brackets", "a million digits")
    },
    "signed: a byte too long": Kind(b" " * (MAX_BYTES + 1), _signed, 413),
    "forged: two megabytes": Kind(b"x" * (2 * MAX_BYTES), _says("t={t},v1=" + "0" * 64), 413),
}
