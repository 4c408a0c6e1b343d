"""Existing customers come in: PUT /v1/customers/{user_id}, for the application's own servers only.

Saying the same again changes nothing; saying something else of a taken user or customer is a 409.
"""

from flask import Blueprint, Response, jsonify, request

from app.auth import Identity, is_user_id
from app.bodies import read_body
from app.errors import InvalidId
from app.schemas import CustomerBody
from billing.customers.customers import claim_customer
from billing.services import Services


def customer_routes(services: Services, *, identity: Identity) -> Blueprint:
    """PUT /v1/customers/{user_id}."""
    routes = Blueprint("customers", __name__)

    @routes.put("/v1/customers/<path:user_id>")  # path: many identity providers put slashes in ids
    def claim(user_id: str) -> Response:
        identity.of(request).require_server()
        if not is_user_id(user_id):
            raise InvalidId("A user id is 1 to 200 printable characters.")
        body = read_body(request, CustomerBody)
        claim_customer(user_id, body.customer_id, database=services.database, clock=services.clock)
        answer = jsonify(user_id=user_id, customer_id=body.customer_id)
        answer.cache_control.no_store = True
        return answer

    return routes
