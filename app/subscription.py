"""What a user has, and what there is to buy: GET /v1/subscription and GET /v1/plans.

Both are read from the ledger and the catalog alone; Stripe is not asked.
"""

from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify, request

from app.identity.callers import Identity
from app.limits.users import Limits
from app.openapi.answers import Plans, PublicPlan
from billing.catalog import Catalog, Plan
from billing.clock import iso
from billing.services import Services
from billing.subscriptions.queries import read_subscription


def subscription_routes(services: Services, *, identity: Identity, limits: Limits) -> Blueprint:
    """GET /v1/subscription and GET /v1/plans."""
    routes = Blueprint("subscription", __name__)
    plans = public_catalog(services.catalog).model_dump()

    @routes.get("/v1/subscription")
    def show() -> Response:
        caller = identity.of(request)
        user_id = caller.named_in_query(request)
        limits.reads.count(caller, user_id, request)
        answer = jsonify(
            read_subscription(user_id, database=services.database, catalog=services.catalog, clock=services.clock)
        )
        answer.cache_control.no_store = True
        return answer

    @routes.get("/v1/plans")
    def list_plans() -> Response:
        answer = jsonify(plans)
        answer.cache_control.public = True
        answer.cache_control.max_age = 60
        return answer

    return routes


def public_catalog(catalog: Catalog) -> Plans:
    """The part of the catalog that anyone may see: neither price ids nor coupon ids."""
    return Plans(product=catalog.product, name=catalog.name, plans=[_public(plan) for plan in catalog.plans.values()])


def _public(plan: Plan) -> PublicPlan:
    times = {"trial_end": _time(plan.trial_end), "billing_starts_at": _time(plan.billing_starts_at)}
    return PublicPlan.model_validate({**plan.model_dump(), "plan": plan.key, **times})  # other fields are left out


def _time(epoch: int | None) -> str | None:
    return iso(datetime.fromtimestamp(epoch, UTC)) if epoch else None
