"""The part of the control plane where people at the Dashboard, banks and the account's settings decide."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from .core import Sandbox
from .errors import ApiError, Json


def add(pages: Blueprint, sandbox: Sandbox) -> None:
    """The addresses, on the blueprint of `control`."""

    @pages.post("/subscriptions/<id>")
    def change_subscription(id: str) -> Response:
        """What `POST /v1/subscriptions/{id}` takes, as the Dashboard or the portal does it."""
        return jsonify(sandbox.change_subscription(id, table_of()))

    @pages.post("/customers/<id>/card")
    def give_card(id: str) -> Response:
        return jsonify(sandbox.give_card(id, str(table_of().get("card", "pm_card_visa"))))

    @pages.post("/payment_methods/<id>")
    def card_answers(id: str) -> Response:
        """`declines`: a decline code from now on, or null."""
        code = table_of().get("declines")
        return jsonify(sandbox.card_answers(id, None if code is None else str(code)))

    @pages.post("/refunds/<id>/status")
    def refund_becomes(id: str) -> Response:
        return jsonify(sandbox.refund_becomes(id, str(table_of().get("status"))))

    @pages.post("/payment_links/<id>/visit")
    def visit_link(id: str) -> Response:
        return jsonify(sandbox.visit_link(id, base_url=request.host_url.rstrip("/")))

    @pages.post("/settings")
    def change_settings() -> Response:
        return jsonify(sandbox.settings(**{str(name): str(value) for name, value in table_of().items()}))


def body_of() -> Any:
    body = request.get_json(force=True, silent=True)
    if body is None and request.get_data():
        raise ApiError(400, "The body is no JSON.")
    return {} if body is None else body


def table_of() -> Json:
    body = body_of()
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return body
