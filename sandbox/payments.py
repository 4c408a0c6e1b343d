"""Payment intents and charges, read. `payment_intents` and `payment_objects` make them."""

from typing import Any

from . import forms
from .calls import Call, Route
from .errors import Json
from .lists import PAGING, page


def list_of(kind: str, url: str, *filters: str) -> Any:
    def run(call: Call, params: Json) -> Json:
        def keep(one: Json) -> bool:
            return all(params.get(name) is None or one[name] == params[name] for name in filters)

        return page(call, kind, params, url, customer=params.get("customer"), keep=keep)

    return run


def retrieve(kind: str) -> Any:
    return lambda call, params: call.named(kind, params["id"])


_OF_CUSTOMER: forms.Table = {**PAGING, "created": forms.created, "customer": forms.text()}

ROUTES: list[Route] = [
    ("GET", "/v1/payment_intents", _OF_CUSTOMER, list_of("payment_intent", "/v1/payment_intents")),
    ("GET", "/v1/payment_intents/{id}", {}, retrieve("payment_intent")),
    (
        "GET",
        "/v1/charges",
        {**_OF_CUSTOMER, "payment_intent": forms.text()},
        list_of("charge", "/v1/charges", "payment_intent"),
    ),
    ("GET", "/v1/charges/{id}", {}, retrieve("charge")),
]
