"""How one request is answered: by its handler, by a refusal, or by a fault in its place.

An answer is JSON text, so nobody can change the state through one.
"""

import json
import re
import traceback
from dataclasses import dataclass, field
from functools import cached_property

from . import forms, known
from .calls import API_VERSION, Call, Found
from .errors import ApiError, Json, invalid_key, unsupported
from .events import visible
from .expand import expand
from .faults import Fault

_EXPAND = forms.items(forms.identifier, 20)  # a parameter of every address
_SAVED_500 = "An unknown error occurred. (The sandbox was told to fail.)"


@dataclass(frozen=True)
class Answer:
    """`dropped`: no answer at all, the connection broke."""

    status: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    dropped: bool = False

    @cached_property
    def body(self) -> Json:
        return dict(json.loads(self.data))

    @property
    def replayed(self) -> bool:
        return self.headers.get("Idempotent-Replayed") == "true"


def run(call: Call, found: Found, params: Json, fault: str | None) -> tuple[int, str]:
    """Checks, executes, renders. Once the parameters are right, whatever happens is a result that can be saved."""
    checked, paths = checked_parameters(found, params)
    failed = ApiError(500, _SAVED_500, type="api_error").body(call.request_id or "")
    if fault == "save_500_without_effect":
        return 500, json.dumps(failed)
    try:
        with call.store.undone_by_refusal():
            answer = found.handler(call, checked)
            shown = expand(call, answer, paths) if paths else answer
            text = json.dumps(_shown(shown), separators=(",", ":"))
    except ApiError:
        raise
    except Exception:  # noqa: BLE001  a mistake of the sandbox's own is a 500 to the client, as at Stripe
        traceback.print_exc()
        return 500, json.dumps(
            ApiError(500, "The sandbox made a mistake.", type="api_error").body(call.request_id or "")
        )
    return (500, json.dumps(failed)) if fault == "save_500_with_effect" else (200, text)


def checked_parameters(found: Found, params: Json) -> tuple[Json, list[str]]:
    """The parameters, typed, and what is to be expanded.

    A parameter is acted on, shown back, or refused here: 501 where Stripe has it, 400 where nobody has.
    """
    given = {name: value for name, value in params.items() if name != "expand"}
    try:
        checked = forms.check(found.table, given)
        paths = _EXPAND(params["expand"], "expand") if "expand" in params else []
    except forms.UnknownParameters as unknown:
        known_ones = [name for name in unknown.names if known.is_parameter(found.address, name)]
        if known_ones == unknown.names:
            raise unsupported(f"the parameter {known_ones[0]}", known_ones[0]) from None
        raise forms.UnknownParameters([name for name in unknown.names if name not in known_ones]) from None
    except forms.UnknownWord as unknown:
        if unknown.word in known.words(found.address, unknown.param or ""):
            raise unsupported(f"{unknown.param}={unknown.word}", unknown.param) from None
        raise
    return {**checked, **found.ids}, paths


def _shown(answer: Json) -> Json:
    shown = visible(answer)
    if shown.get("object") == "list":
        shown["data"] = [visible(one) for one in shown["data"]]
    return shown


def mode_of(api_key: str | None) -> bool:
    """Whether the key is a live one; 401 when it is none."""
    if not api_key:
        raise invalid_key(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer"
            " auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    kind, _, rest = api_key.partition("_")
    mode, _, name = rest.partition("_")
    if kind not in ("sk", "rk") or mode not in ("test", "live") or not name:
        raise invalid_key(f"Invalid API Key provided: {api_key[:3]}{'*' * 8}")
    return mode == "live"


def check_version(version: str | None) -> None:
    """Refuses a `Stripe-Version` that is not ours: its answers would have another shape."""
    if version in (None, API_VERSION):
        return
    if re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?", version or ""):
        raise unsupported(f"the API version {version}; it answers as {API_VERSION}")
    raise ApiError(400, f"Invalid Stripe API version: {str(version)[:40]}")


def instead(fault: Fault, request_id: str) -> Answer | None:
    """The answer of a fault that keeps the request from being executed."""
    headers = {"Request-Id": request_id, "Content-Type": "application/json", **fault.headers}
    match fault.kind:
        case "drop_before":
            return Answer(0, b"", dropped=True)
        case "status":
            types = {402: "card_error", 409: "idempotency_error"}
            type_ = types.get(fault.status, "api_error" if fault.status >= 500 else "invalid_request_error")
            code = fault.code
            if code == "idempotency_error":  # at Stripe that is a type, without a code
                type_, code = code, None
            error = ApiError(fault.status, fault.message or "The sandbox was told to fail.", type=type_, code=code)
            return Answer(fault.status, json.dumps(error.body(request_id)).encode(), headers)
        case "rate_limit":
            headers = {**headers, "Stripe-Rate-Limited-Reason": "global-rate"}
            error = ApiError(429, "Request rate limit exceeded.", code="rate_limit")
            return Answer(429, json.dumps(error.body(request_id)).encode(), headers)
        case "html":
            page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
            status = fault.status if fault.status != 500 else 502
            return Answer(status, page, {**headers, "Content-Type": "text/html"})
        case "redirect":
            location = fault.headers.get("Location", "http://127.0.0.1:9/elsewhere")
            status = fault.status if 300 <= fault.status < 400 else 302
            return Answer(status, b"", {**headers, "Location": location})
        case _:
            return None
