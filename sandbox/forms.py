"""What arrives: form-encoded text with brackets, `a[b][0][c]=d`. What leaves: typed, checked, nested values.

A resource describes its parameters as a table of checks (`{"limit": integer(1, 100)}`); `check` refuses what the
table does not name with Stripe's `parameter_unknown`. Numbers and booleans that are typed already pass as they
are, so the same tables serve callers in the same process.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from .errors import ApiError, Json, bad_parameter, missing_parameter

Check = Callable[[Any, str], Any]
Table = Mapping[str, Check]

_PARTS = re.compile(r"\[([^\[\]]*)\]")
_INDEX = re.compile(r"[0-9]{1,9}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_MAX_DEPTH = 10  # Stripe's own parameters nest to about six


def decode(text: str) -> Json:
    """Form or query text into nested dicts; lists stay dicts of digits until a check asks for a list."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        raise ApiError(400, "Too many parameters in the request.") from None
    root: Json = {}
    for name, value in pairs:
        _place(root, name, value)
    return root


def _place(root: Json, name: str, value: str) -> None:
    head, bracket, _ = name.partition("[")
    keys = [head, *(_PARTS.findall(name[len(head) :]) if bracket else [])]
    if not head or len(keys) > _MAX_DEPTH:
        raise ApiError(400, f"Invalid parameter name: {name[:80]}")
    node = root
    for key in keys[:-1]:
        key = key if key or node is root else str(len(node))
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ApiError(400, f"Invalid parameter: {name[:80]}")
        node = child
    last = keys[-1] if keys[-1] else str(len(node))
    node[last] = value


def check(table: Table, params: Mapping[str, Any], prefix: str = "") -> Json:
    """The typed parameters, or the first refusal. Parameters that were not sent are absent from the result."""
    unknown = [name for name in params if name not in table]
    if unknown:
        names = ", ".join(_join(prefix, name) for name in unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise bad_parameter(
            f"Received unknown parameter{plural}: {names}",
            _join(prefix, unknown[0]),
            code="parameter_unknown",
        )
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


def number(value: Any, param: str) -> float:
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
            raise bad_parameter(f"Invalid {param}: must be one of {_listed(allowed)}", param)
        return str(value)

    return run


def either(word: str, other: Check) -> Check:
    """`trial_end=now` or a timestamp."""
    return lambda value, param: value if value == word else other(value, param)


def table(checks: Table) -> Check:
    def run(value: Any, param: str) -> Json | None:
        if value == "" or value is None:
            return None
        if not isinstance(value, Mapping):
            raise bad_parameter("Invalid object", param)
        return check(checks, value, param)

    return run


def items(each: Check, most: int = 100) -> Check:
    def run(value: Any, param: str) -> list[Any]:
        if value == "" or value is None:
            return []
        if isinstance(value, Mapping) and all(_INDEX.fullmatch(str(key)) for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        if not isinstance(value, list | tuple):
            raise bad_parameter("Invalid array", param)
        if len(value) > most:
            raise bad_parameter(f"Array is limited to {most} elements.", param)
        return [each(one, f"{param}[{index}]") for index, one in enumerate(value)]

    return run


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


def absent(reason: str) -> Check:
    """A parameter that Stripe has and the sandbox honestly does not."""

    def run(value: Any, param: str) -> Any:
        raise bad_parameter(f"The sandbox does not support {param}: {reason}", param, code="sandbox_unsupported")

    return run


def unsupported(*names: str) -> dict[str, Check]:
    """Parameters of Stripe's that the sandbox knows by name only, so that it does not call them unknown."""
    return {name: absent("it is left out") for name in names}


moment = integer(0, 253402300799)
span: Check = table({"gt": moment, "gte": moment, "lt": moment, "lte": moment})


def created(value: Any, param: str) -> Any:
    return span(value, param) if isinstance(value, Mapping) else moment(value, param)


def _show(value: Any) -> str:
    return str(value)[:80]


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + (f", or {words[-1]}" if len(words) > 1 else words[0])
