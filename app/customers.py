"""Existing customers come in: PUT /v1/customers/{user_id}, for the application's own servers only.

Saying the same again changes nothing; saying something else of a taken user or customer is a 409. The customer is
fetched from Stripe at once, and the answer waits for that, within bounds (SUB-70).
"""

from flask import Blueprint, Response, jsonify, request

from app.answers import Wait, private
from app.bodies.reading import read_body
from app.bodies.schemas import CustomerBody
from app.errors.problems import InvalidId
from app.identity.callers import Identity
from app.limits.users import Limits
from billing.coordination.jobs import SyncCustomers
from billing.customers.customers import claim_customer
from billing.rules.ids import is_user_id
from billing.services import Services
from billing.subscriptions.take_over import await_sync


def customer_routes(services: Services, *, identity: Identity, limits: Limits) -> Blueprint:
    """PUT /v1/customers/{user_id}."""
    routes = Blueprint("customers", __name__)

    @routes.put("/v1/customers/<path:user_id>")  # path: many identity providers put slashes in ids
    def claim(user_id: str) -> Response:
        wait = Wait(request, default=services.settings.checkout_wait_seconds)
        identity.of(request).require_server()
        if not is_user_id(user_id):
            raise InvalidId("A user id is 1 to 200 printable characters.")
        body = read_body(request, CustomerBody)
        claim_customer(user_id, body.customer_id, database=services.database, clock=services.clock)
        enqueued = services.queue.send(SyncCustomers())
        with limits.waiters.place(user_id) as has_place:
            await_sync(
                body.customer_id,
                seconds=wait.left if has_place and enqueued else 0,
                database=services.database,
                wakeups=services.wakeups,
            )
        return private(jsonify(user_id=user_id, customer_id=body.customer_id), wait)

    return routes
