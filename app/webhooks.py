"""Stripe's deliveries: the raw bytes and the signature go to `billing.webhooks.ingest`; 200 means they are committed.

No rate limit, no CORS, no login: the signature is what counts. 503 makes Stripe send again.
"""

from flask import Blueprint, Response, jsonify, request

from app.bodies import read_bytes
from app.errors import Busy
from app.limits import Seats
from billing.services import Services
from billing.webhooks.ingest import GroupCommit, receive

# Honest bodies arrive with their headers: a seat is free again within a millisecond.
PATIENCE_SECONDS = 0.02


def webhook_routes(services: Services, *, readers: Seats) -> Blueprint:
    """POST /webhooks/stripe."""
    routes = Blueprint("webhooks", __name__)
    secrets = tuple(secret.get_secret_value() for secret in services.settings.stripe_webhook_secrets)
    max_bytes = services.settings.webhook_max_bytes
    together = GroupCommit(services.database)

    @routes.post("/webhooks/stripe")
    def receive_event() -> Response:
        with readers.take(patience_seconds=PATIENCE_SECONDS) as seated:
            if not seated:
                raise Busy("Too many deliveries are being read at once. Try again.")
            body = read_bytes(request, max_bytes)
        status = receive(
            body,
            request.headers.get("Stripe-Signature"),
            secrets=secrets,
            database=services.database,
            queue=services.queue,
            clock=services.clock,
            max_bytes=max_bytes,
            together=together,
        )
        answer = jsonify(status=status)
        answer.cache_control.no_store = True
        return answer

    return routes
