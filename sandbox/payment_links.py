"""Payment Links: an address at which anybody buys. Each visit opens a checkout session, without a customer."""

from . import checkout_sessions, forms, subscription_parameters
from .calls import Call, Route
from .checkout_objects import TEXTS
from .errors import Json, bad_parameter, missing_parameter, refused
from .events import emit
from .lists import PAGING, page, part
from .resources import retrieve, same
from .subscription_items import is_metered

_DAY = 86400
_CHANGED = ("active", "allow_promotion_codes", "inactive_message")


def create(call: Call, params: Json) -> Json:
    forms.require(params, "line_items")
    for index, line in enumerate(params["line_items"]):
        if not line.get("price"):
            raise bad_parameter(
                f"Missing required param: line_items[{index}][price].",
                f"line_items[{index}][price]",
                code="parameter_missing",
            )
    prices = [call.named("price", line["price"], param="line_items") for line in params["line_items"]]
    id = call.store.new_id("plink_1")
    after = params.get("after_completion") or {"type": "hosted_confirmation"}
    if not after.get("type"):
        raise missing_parameter("after_completion[type]")
    one = {
        "id": id,
        "object": "payment_link",
        "active": True,
        "after_completion": {
            **({"hosted_confirmation": {"custom_message": None}} if after["type"] == "hosted_confirmation" else {}),
            **after,
        },
        "allow_promotion_codes": bool(params.get("allow_promotion_codes")),
        "application": None,
        "application_fee_amount": None,
        "application_fee_percent": None,
        "automatic_tax": {"enabled": False, "liability": None},
        "billing_address_collection": params.get("billing_address_collection") or "auto",
        "consent_collection": None,
        "currency": prices[0]["currency"],
        "custom_fields": [],
        "custom_text": dict.fromkeys(TEXTS),
        "customer_creation": "always" if prices[0]["recurring"] else "if_required",
        "invoice_creation": None,
        "inactive_message": params.get("inactive_message"),
        "livemode": call.livemode,
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "on_behalf_of": None,
        "payment_method_collection": params.get("payment_method_collection") or "always",
        "payment_method_types": None,
        "phone_number_collection": {"enabled": False},
        "restrictions": None,
        "shipping_address_collection": None,
        "shipping_options": [],
        "submit_type": params.get("submit_type") or "auto",
        "subscription_data": {
            "description": None, "invoice_settings": {"issuer": {"type": "self"}}, "metadata": {},
            "trial_period_days": None, "trial_settings": None, **(params.get("subscription_data") or {}),
        } if prices[0]["recurring"] else None,
        "tax_id_collection": {"enabled": False, "required": "never"},
        "transfer_data": None,
        "url": f"{call.base_url}/link/{id}",
        "_line_items": [
            line if is_metered(price) else {"quantity": 1, **line}
            for line, price in zip(params["line_items"], prices, strict=True)
        ],
        "_mode": "subscription" if prices[0]["recurring"] else "payment",
    }  # fmt: skip
    call.store.put("payment_link", one)
    emit(call, "payment_link.created", one)
    return one


def visit(call: Call, link: Json) -> Json:
    """Somebody opens the link: a session that carries the link's metadata, and no customer of anybody's."""
    if not link["active"]:
        raise refused("This payment link is no longer active.")
    redirect = (link["after_completion"].get("redirect") or {}).get("url")
    data = {name: value for name, value in (link["subscription_data"] or {}).items() if value}
    params = {
        "mode": link["_mode"],
        "line_items": link["_line_items"],
        "success_url": redirect,
        "metadata": link["metadata"],
        "allow_promotion_codes": link["allow_promotion_codes"] or None,
        "payment_method_collection": link["payment_method_collection"] if link["_mode"] == "subscription" else None,
        "subscription_data": data,
    }
    session = checkout_sessions.opened(call, params, None, expires_at=call.wall + _DAY)
    return call.store.change("checkout_session", session["id"], payment_link=link["id"])


def update(call: Call, params: Json) -> Json:
    old = call.named("payment_link", params["id"])
    fields: Json = {name: params[name] for name in _CHANGED if name in params}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    one = call.store.change("payment_link", old["id"], **fields)
    emit(call, "payment_link.updated", one, previous=old)
    return one


def line_items(call: Call, params: Json) -> Json:
    one = call.named("payment_link", params["id"])
    with_ids = [
        {
            "id": f"li_{one['id']}_{index}",
            "object": "item",
            "price": call.named("price", line["price"]),
            "quantity": line.get("quantity"),
        }
        for index, line in enumerate(one["_line_items"])
    ]
    return part(with_ids, params, f"/v1/payment_links/{one['id']}/line_items")


_LINE = forms.table(
    {"price": forms.identifier, "quantity": forms.integer(1, 999_999)},
)

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/payment_links",
        {
            "after_completion": forms.table(
                {
                    "redirect": forms.table({"url": forms.text()}),
                    "type": forms.one_of("hosted_confirmation", "redirect"),
                }
            ),
            "allow_promotion_codes": forms.boolean,
            "billing_address_collection": forms.one_of("auto", "required"),
            "inactive_message": forms.text(500),
            "line_items": forms.items(_LINE, 20),
            "metadata": forms.metadata,
            "payment_method_collection": forms.one_of("always", "if_required"),
            "submit_type": forms.one_of("auto", "book", "donate", "pay", "subscribe"),
            "subscription_data": forms.table(
                {
                    "description": forms.text(500),
                    "metadata": forms.metadata,
                    "trial_period_days": forms.integer(1, 730),
                    "trial_settings": subscription_parameters.TRIAL_SETTINGS,
                }
            ),
        },
        create,
    ),
    (
        "GET",
        "/v1/payment_links",
        {**PAGING, "active": forms.boolean},
        lambda call, params: page(
            call, "payment_link", params, "/v1/payment_links", keep=lambda one: same(one, params, "active")
        ),
    ),
    ("GET", "/v1/payment_links/{id}", {}, retrieve("payment_link")),
    (
        "POST",
        "/v1/payment_links/{id}",
        {
            "active": forms.boolean,
            "allow_promotion_codes": forms.boolean,
            "inactive_message": forms.text(500),
            "metadata": forms.metadata,
        },
        update,
    ),
    ("GET", "/v1/payment_links/{id}/line_items", PAGING, line_items),
]
