"""What the sandbox says no with: one exception, shaped like Stripe's error object.

`saved` tells the idempotency layer that execution had begun, so that the same key will replay the refusal.
Refusals of malformed parameters are not saved, as at Stripe. A refused request changes nothing, unless it
`keeps_changes`: a declined card is a refusal with an attempt on record.
"""

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An HTTP status and the fields of Stripe's `error` object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        saved: bool = False,
        keeps_changes: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.saved = saved
        self.keeps_changes = keeps_changes
        self.more = more

    def body(self, request_id: str) -> Json:
        error: Json = {"type": self.type, "message": self.message}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://docs.stripe.com/error-codes/{self.code.replace('_', '-')}"
        if self.param is not None:
            error["param"] = self.param
        error.update(self.more)
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": error}


def missing_object(noun: str, id: str, *, param: str = "id", status: int = 404) -> ApiError:
    """404 for the object a path names, 400 for one that a parameter names. Both are execution, so both are saved."""
    return ApiError(status, f"No such {noun}: '{id}'", code="resource_missing", param=param, saved=True)


def missing_parameter(param: str) -> ApiError:
    return ApiError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def bad_parameter(message: str, param: str, *, code: str | None = None) -> ApiError:
    return ApiError(400, message, code=code, param=param)


def unsupported(what: str, param: str | None = None) -> ApiError:
    """Stripe has it, the sandbox does not. Stripe never answers 501, so nobody takes it for an answer of Stripe's."""
    return ApiError(501, f"The sandbox does not support {what}.", code="sandbox_unsupported", param=param)


def refused(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """The request was well formed, but the state does not allow it."""
    return ApiError(400, message, code=code, param=param, saved=True)


def invalid_key(message: str) -> ApiError:
    return ApiError(401, message)
