"""Configurations of the billing portal: what its pages let a customer do.

The account has a default one, as soon as somebody saved the portal's settings in the Dashboard; the control plane can
say that nobody has (`{"portal": "never_saved"}`).
"""

from typing import Any

from . import forms, settings
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_parameter, refused
from .events import emit
from .lists import PAGING, page
from .resources import retrieve, same

_DEFAULT = "bpc_1SandboxSandboxSandboxS"
_NEVER_SAVED = (
    "No configuration provided and your test mode default configuration has not been created. Provide a configuration"
    " or create your default by saving your customer portal settings in test mode at"
    " https://dashboard.stripe.com/test/settings/billing/portal."
)
_FEATURES: Json = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": []},
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}


def used(call: Call, id: str | None) -> Json:
    """The configuration that a session names, else the account's default; refused where there is none."""
    if id:
        one = call.named("billing_portal_configuration", id, noun="configuration", param="configuration")
        if not one["active"]:
            raise refused("The configuration is not active.", param="configuration")
        return one
    if (saved := default(call)) is None:
        raise refused(_NEVER_SAVED)
    return saved


def default(call: Call) -> Json | None:
    """The account's default, made when it is first needed: an account begins with a saved portal here."""
    if settings.shown(call.store)["portal"] == "never_saved":
        return None
    id = f"{_DEFAULT}{'L' if call.livemode else 'T'}"
    features = {
        "customer_update": {"allowed_updates": ["email", "tax_id"], "enabled": True},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True},
    }
    kept = call.store.get("billing_portal_configuration", id)
    return kept or call.store.put("billing_portal_configuration", _new(call, {"features": features}, id=id))


def _new(call: Call, params: Json, *, id: str | None = None) -> Json:
    profile = params.get("business_profile") or {}
    return {
        "id": id or call.store.new_id("bpc_1"),
        "object": "billing_portal.configuration",
        "active": True,
        "application": None,
        "business_profile": {
            "headline": None, "privacy_policy_url": None, "terms_of_service_url": None, **profile
        },
        "created": call.now,
        "default_return_url": params.get("default_return_url"),
        "features": _merged(_FEATURES, params.get("features") or {}),
        "is_default": id is not None,
        "livemode": call.livemode,
        "login_page": {"enabled": False, "url": None},
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "name": params.get("name"),
        "updated": call.now,
    }  # fmt: skip


def _merged(old: Json, new: Json) -> Json:
    return {
        name: _merged(value, new[name]) if isinstance(value, dict) and isinstance(new.get(name), dict)
        else new.get(name, value)
        for name, value in {**new, **old}.items()
    }  # fmt: skip


def create(call: Call, params: Json) -> Json:
    if "features" not in params:
        raise missing_parameter("features")
    _check(params["features"] or {})
    one = call.store.put("billing_portal_configuration", _new(call, params))
    emit(call, "billing_portal.configuration.created", one)
    return one


def _check(features: Json) -> None:
    for name, given in features.items():
        if given.get("enabled") is None:
            raise missing_parameter(f"features[{name}][enabled]")
    update = features.get("subscription_update") or {}
    if update.get("enabled") and not (update.get("products") and update.get("default_allowed_updates")):
        raise bad_parameter(
            "You must provide products and default_allowed_updates to enable subscription updates.",
            "features[subscription_update]",
        )


def update(call: Call, params: Json) -> Json:
    old = call.named("billing_portal_configuration", params["id"], noun="configuration")
    if old["is_default"] and params.get("active") is False:
        raise refused("You can't deactivate the default configuration.", param="active")
    fields: dict[str, Any] = {name: params[name] for name in ("active", "default_return_url", "name") if name in params}
    if params.get("features"):
        fields["features"] = _merged(old["features"], params["features"])
    if params.get("business_profile"):
        fields["business_profile"] = {**old["business_profile"], **params["business_profile"]}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    one = call.store.change("billing_portal_configuration", old["id"], **fields, updated=call.now)
    emit(call, "billing_portal.configuration.updated", one, previous=old)
    return one


def list_configurations(call: Call, params: Json) -> Json:
    hidden = default(call) is None

    def keep(one: Json) -> bool:
        return same(one, params, "active", "is_default") and not (hidden and one["is_default"])

    return page(call, "billing_portal_configuration", params, "/v1/billing_portal/configurations", keep=keep)


_PRORATIONS = forms.one_of("always_invoice", "create_prorations", "none")
_FEATURE_CHANGES: forms.Table = {
    "customer_update": forms.table(
        {
            "allowed_updates": forms.items(forms.one_of("address", "email", "name", "phone", "shipping", "tax_id")),
            "enabled": forms.boolean,
        }
    ),
    "invoice_history": forms.table({"enabled": forms.boolean}),
    "payment_method_update": forms.table({"enabled": forms.boolean}),
    "subscription_cancel": forms.table(
        {
            "enabled": forms.boolean,
            "mode": forms.one_of("at_period_end", "immediately"),
            "proration_behavior": _PRORATIONS,
        }
    ),
    "subscription_update": forms.table(
        {
            "default_allowed_updates": forms.items(forms.one_of("price", "promotion_code", "quantity")),
            "enabled": forms.boolean,
            "products": forms.items(
                forms.table({"prices": forms.items(forms.identifier), "product": forms.identifier})
            ),
            "proration_behavior": _PRORATIONS,
        }
    ),
}
_CHANGES: forms.Table = {
    "business_profile": forms.table(
        {
            "headline": forms.text(60),
            "privacy_policy_url": forms.text(),
            "terms_of_service_url": forms.text(),
        }
    ),
    "default_return_url": forms.text(),
    "features": forms.table(_FEATURE_CHANGES),
    "metadata": forms.metadata,
    "name": forms.text(60),
}
_ALL = "/v1/billing_portal/configurations"

ROUTES: list[Route] = [
    ("POST", _ALL, _CHANGES, create),
    ("GET", _ALL, {**PAGING, "active": forms.boolean, "is_default": forms.boolean}, list_configurations),
    ("GET", f"{_ALL}/{{id}}", {}, retrieve("billing_portal_configuration")),
    ("POST", f"{_ALL}/{{id}}", {**_CHANGES, "active": forms.boolean}, update),
]
