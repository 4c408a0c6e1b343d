"""Bodies in: a bounded number of bytes, strict JSON, a checked model; or an error that says where it is wrong.

Nothing a client sends can raise anything else here. Depth, the size of numbers, text and doubled fields are judged
before a model sees the value (API-5, API-6).
"""

import json
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from flask import Request
from pydantic import BaseModel, ValidationError

from app.errors.problems import BodyTooLarge, InvalidJson, UnsupportedMediaType
from billing.errors import InvalidRequest
from billing.rules.ids import storable

Body = TypeVar("Body", bound=BaseModel)


class Reader(Protocol):
    """How a body is read: `read_body` or `read_optional_body`."""

    def __call__(self, request: Request, model: type[Body]) -> Body: ...


# 64 KiB: ten times the largest body that makes sense (20 metadata values, two addresses).
MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_ERRORS = 20  # as many as a person reads; a hostile body may have ten thousand


def read_body(request: Request, model: type[Body]) -> Body:
    """Read the body as this model. Raises InvalidJson, BodyTooLarge, UnsupportedMediaType, InvalidRequest."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    return _checked(_parse(read_bytes(request, MAX_BODY_BYTES)), model)


def read_optional_body(request: Request, model: type[Body]) -> Body:
    """The same where a call may come without a body: none reads like an empty object."""
    raw = read_bytes(request, MAX_BODY_BYTES)
    if raw.strip() and request.mimetype != "application/json":
        raise UnsupportedMediaType
    return _checked(_parse(raw) if raw.strip() else _Object([]), model)


def _checked(value: Any, model: type[Body]) -> Body:
    if problems := [problem for problem, _ in zip(_unfit(value, ""), range(MAX_ERRORS), strict=False)]:
        raise InvalidRequest("The body has fields that cannot be used.", *problems)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest("The body has fields that cannot be used.", *_pointers(error)) from None


def read_bytes(request: Request, limit: int) -> bytes:
    """Read at most `limit` bytes, whatever the length header says or whether there is one."""
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    while piece := request.stream.read(limit + 1 - len(body)):  # at the limit that is read(0): nothing
        body += piece
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return bytes(body)


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its fields were given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.doubled = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]  # add gives None, on purpose


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_Object, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # ValueError: no UTF-8, no JSON, or a number of more than 4,300 digits
        raise InvalidJson("The body is not JSON in UTF-8.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _unfit(value: Any, pointer: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Find what no field may hold: text that no database stores, fields given twice, a maze of brackets."""
    if depth > MAX_DEPTH:
        raise InvalidJson(f"The body is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, str):
        if not storable(value):
            yield pointer, "This text has a NUL or half of a surrogate pair."
    elif isinstance(value, _Object):
        for name in value.doubled:
            yield _down(pointer, name), "This field is given twice."
        for name, item in value.items():
            if not storable(name):
                yield pointer, "A field's name here has a NUL or half of a surrogate pair."
            else:
                yield from _unfit(item, _down(pointer, name), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unfit(item, _down(pointer, str(index)), depth + 1)


def _pointers(error: ValidationError) -> Iterator[tuple[str, str]]:
    # include_input off: what the client sent is its own business and may be a secret.
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ERRORS]:
        pointer = ""
        for part in item["loc"]:
            pointer = _down(pointer, str(part))
        yield pointer, _WORDS.get(item["type"], f"{item['msg']}.")


_WORDS = {
    "extra_forbidden": "This field is not known here.",
    "missing": "This field is required.",
    "model_type": "The body must be a JSON object.",
}


def _down(pointer: str, name: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
