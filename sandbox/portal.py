"""Sessions of the billing portal. The `url` is a secret that opens the page of `portal_pages` for a day."""

from . import customers, forms
from .calls import Call, Route
from .errors import Json


def create(call: Call, params: Json) -> Json:
    forms.require(params, "customer")
    customer = customers.alive(call, params["customer"])
    secret = call.store.new_id("", 32)
    one = {
        "id": call.store.new_id("bps_1"),
        "object": "billing_portal.session",
        "configuration": params.get("configuration") or "bpc_1SandboxSandboxSandboxS",
        "created": call.now,
        "customer": customer["id"],
        "customer_account": None,
        "flow": None,
        "livemode": call.livemode,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{call.base_url}/portal/{secret}",
    }
    call.store.put("portal_secret", {"id": secret, "session": one["id"]})
    return call.store.put("portal_session", one)


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/billing_portal/sessions",
        {
            "configuration": forms.text(),
            "customer": forms.identifier,
            "flow_data": forms.absent("only the portal's first page"),
            "locale": forms.text(10),
            "return_url": forms.text(),
        },
        create,
    ),
]
