"""What arrives: nested text, as `decoding` reads it. What leaves: typed, checked values.

A resource describes its parameters as a table of checks (`{"limit": integer(1, 100)}`); `check` refuses what the
table does not name with Stripe's `parameter_unknown`. Numbers and booleans that are typed already pass as they
are, so the same tables serve callers in the same process.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, Json, bad_parameter, missing_parameter

Check = Callable[[Any, str], Any]
Table = Mapping[str, Check]

INDEX = re.compile(r"[0-9]{1,9}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class UnknownParameters(ApiError):
    """`names` are in no table of the sandbox's; whether Stripe has them is not for the form to say."""

    def __init__(self, names: list[str]) -> None:
        message = f"Received unknown parameter{'s' if len(names) > 1 else ''}: {', '.join(names)}"
        super().__init__(400, message, param=names[0], code="parameter_unknown")
        self.names = names


class UnknownWord(ApiError):
    """A value that the sandbox does not have among those of a parameter."""

    def __init__(self, param: str, word: str, allowed: tuple[str, ...]) -> None:
        super().__init__(400, f"Invalid {param}: must be one of {_listed(allowed)}", param=param)
        self.word = word


def check(table: Table, params: Mapping[str, Any], prefix: str = "") -> Json:
    """The typed parameters, or the first refusal. Parameters that were not sent are absent from the result."""
    if unknown := [_join(prefix, name) for name in params if name not in table]:
        raise UnknownParameters(unknown)
    return {name: table[name](value, _join(prefix, name)) for name, value in params.items()}


def require(params: Json, *names: str) -> None:
    for name in names:
        if params.get(name) in (None, "", []):
            raise missing_parameter(name)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}[{name}]" if prefix else name


# The checks -------------------------------------------------------------------------------------------------------


def text(longest: int = 5000, *, pattern: str | None = None) -> Check:
    def run(value: Any, param: str) -> str | None:
        if not isinstance(value, str):
            raise bad_parameter(f"Invalid string: {_show(value)}", param)
        if len(value) > longest:
            raise bad_parameter(f"Invalid string: {value[:20]}...; must be at most {longest} characters", param)
        if pattern and value and not re.fullmatch(pattern, value):
            raise bad_parameter(f"Invalid string: {value[:80]}", param)
        return value or None

    return run


def identifier(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise bad_parameter(f"Invalid string: {_show(value)}", param)
    if not value:
        message = (
            f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter;"
            f" however '{param}' cannot be unset."
        )
        raise bad_parameter(message, param, code="parameter_invalid_empty")
    return value


def integer(least: int | None = None, most: int | None = None) -> Check:
    def run(value: Any, param: str) -> int | None:
        if value == "" or value is None:
            return None
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad_parameter(f"Invalid integer: {_show(value)}", param, code="parameter_invalid_integer")
        if least is not None and value < least:
            raise bad_parameter(
                f"This value must be greater than or equal to {least}.",
                param,
                code="parameter_invalid_integer",
            )
        if most is not None and value > most:
            raise bad_parameter(
                f"This value must be less than or equal to {most}.", param, code="parameter_invalid_integer"
            )
        return value

    return run


def number(value: Any, param: str) -> float | None:
    if value == "" or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not -1e12 < found < 1e12:
        raise bad_parameter(f"Invalid decimal: {_show(value)}", param)
    return found


def boolean(value: Any, param: str) -> bool | None:
    if value == "" or value is None:
        return None
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise bad_parameter(f"Invalid boolean: {_show(value)}", param)


def one_of(*allowed: str) -> Check:
    def run(value: Any, param: str) -> str | None:
        if value == "" or value is None:
            return None
        if value not in allowed:
            raise UnknownWord(param, str(value)[:80], allowed)
        return str(value)

    return run


def either(word: str, other: Check) -> Check:
    """`trial_end=now` or a timestamp."""
    return lambda value, param: value if value == word else other(value, param)


@dataclass(frozen=True)
class table:
    """Parameters inside a parameter."""

    checks: Table

    def __call__(self, value: Any, param: str) -> Json | None:
        if value == "" or value is None:
            return None
        if not isinstance(value, Mapping):
            raise bad_parameter("Invalid object", param)
        return check(self.checks, value, param)


@dataclass(frozen=True)
class items:
    """A list, each of its elements under one check."""

    each: Check
    most: int = 100

    def __call__(self, value: Any, param: str) -> list[Any]:
        if value == "" or value is None:
            return []
        if isinstance(value, Mapping) and all(INDEX.fullmatch(str(key)) for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        if not isinstance(value, list | tuple):
            raise bad_parameter("Invalid array", param)
        if len(value) > self.most:
            raise bad_parameter(f"Array is limited to {self.most} elements.", param)
        return [self.each(one, f"{param}[{index}]") for index, one in enumerate(value)]


def leaves(checks: Table, prefix: str = "") -> Iterator[str]:
    """Every parameter of a table as it is sent: `items[0][price]`."""
    for name, each in checks.items():
        param = _join(prefix, name)
        if isinstance(each, items):
            each, param = each.each, f"{param}[0]"
        if isinstance(each, table):
            yield from leaves(each.checks, param)
        else:
            yield param


def metadata(value: Any, param: str) -> dict[str, str] | None:
    """At most 50 keys of 40 characters, values of 500; an empty value unsets its key, an empty table all of them."""
    if value == "" or value is None:
        return None
    if not isinstance(value, Mapping):
        raise bad_parameter("Invalid object", param)
    if len(value) > 50:
        raise bad_parameter("You can only set 50 metadata keys.", param)
    for key, word in value.items():
        if len(str(key)) > 40:
            raise bad_parameter(f"Metadata keys can have up to 40 characters: {str(key)[:60]}", f"{param}[{key}]")
        if isinstance(word, Mapping | list):
            raise bad_parameter("Metadata values must be strings.", f"{param}[{key}]")
        if len(str(word)) > 500:
            raise bad_parameter("Metadata values can have up to 500 characters.", f"{param}[{key}]")
    return {str(key): "" if word is None else str(word) for key, word in value.items()}


def merge_metadata(old: Mapping[str, str], new: Mapping[str, str] | None) -> dict[str, str]:
    if new is None:
        return {}
    return {key: word for key, word in {**old, **new}.items() if word != ""}


def anything(value: Any, param: str) -> Any:
    """A parameter that Stripe has and the sandbox keeps without acting on it."""
    return value


moment = integer(0, 253402300799)
span: Check = table({"gt": moment, "gte": moment, "lt": moment, "lte": moment})


def created(value: Any, param: str) -> Any:
    """A moment, or the bounds that were given: an empty one bounds nothing."""
    if not isinstance(value, Mapping):
        return moment(value, param)
    return {name: bound for name, bound in (span(value, param) or {}).items() if bound is not None}


def _show(value: Any) -> str:
    return str(value)[:80]


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + (f", or {words[-1]}" if len(words) > 1 else words[0])
