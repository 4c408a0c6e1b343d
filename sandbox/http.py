"""The Flask application: form-encoded requests under /v1, and with them the control plane and the payment page."""

import base64
import binascii
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request

from . import control, decoding, pages, portal_pages
from .answers import Answer
from .core import Sandbox
from .errors import ApiError

DROP = "X-Sandbox-Drop"  # tells our own server to break the connection; never leaves the process


def create_app(sandbox: Sandbox) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = 2 * 1024 * 1024
    app.register_blueprint(control.blueprint(sandbox))
    app.register_blueprint(pages.blueprint(sandbox))
    app.register_blueprint(portal_pages.blueprint(sandbox))

    @app.route("/<any(v1, v2):version>/<path:rest>", methods=["GET", "POST", "DELETE", "PUT", "PATCH"])
    def api(version: str, rest: str) -> Response:
        try:
            params = decoding.decode(request.query_string.decode("utf-8", "replace"))
            if request.method == "POST":
                params = {**params, **decoding.decode(request.get_data().decode("utf-8", "replace"))}
        except ApiError as error:
            return Response(_json(app, error.body("req_unread")), error.status, mimetype="application/json")
        answer = sandbox.request(
            request.method,
            f"/{version}/{rest}",
            params,
            idempotency_key=request.headers.get("Idempotency-Key") or None,
            api_key=_api_key(),
            base_url=request.host_url.rstrip("/"),
            version=request.headers.get("Stripe-Version"),
        )
        return _response(answer)

    @app.get("/")
    def root() -> dict[str, Any]:
        return {"onelane sandbox": "a Stripe that keeps state", "api": "/v1", "control plane": "/_sandbox/state"}

    return app


def _api_key() -> str | None:
    """From `Bearer KEY`, or as the user of basic authentication, as curl -u sends it."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _response(answer: Answer) -> Response:
    if answer.dropped:
        return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={DROP: "1"})
    response = Response(answer.data, answer.status)
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


def _json(app: Flask, body: Any) -> str:
    return str(app.json.dumps(body))
