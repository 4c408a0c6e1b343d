"""Sessions of the billing portal. The `url` is a secret that opens the page of `portal_pages` for a day."""

from . import balances, forms, portal_configurations
from .calls import Call, Route
from .errors import Json
from .events import emit


def create(call: Call, params: Json) -> Json:
    forms.require(params, "customer")
    customer = balances.alive(call, params["customer"])
    configuration = portal_configurations.used(call, params.get("configuration"))
    secret = call.store.new_id("", 32)
    one = {
        "id": call.store.new_id("bps_1"),
        "object": "billing_portal.session",
        "configuration": configuration["id"],
        "created": call.wall,
        "customer": customer["id"],
        "customer_account": None,
        "flow": None,
        "livemode": call.livemode,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url") or configuration["default_return_url"],
        "url": f"{call.base_url}/portal/{secret}",
    }
    call.store.put("portal_secret", {"id": secret, "session": one["id"]})
    call.store.put("portal_session", one)
    emit(call, "billing_portal.session.created", one)
    return one


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/billing_portal/sessions",
        {
            "configuration": forms.text(),
            "customer": forms.identifier,
            "locale": forms.text(10),
            "return_url": forms.text(),
        },
        create,
    ),
]
