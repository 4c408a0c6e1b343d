"""Form-encoded text with brackets, `a[b][0][c]=d`, into nested values."""

import re
from urllib.parse import parse_qsl

from .errors import ApiError, Json

_PARTS = re.compile(r"\[([^\[\]]*)\]")
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
