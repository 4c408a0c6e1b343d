"""The parameters that a subscription is made with and changed by. What is not here is refused."""

from . import discounts, forms, tax_rates
from .calls import Call
from .errors import Json, bad_parameter

DETAILS = forms.table(
    {
        "comment": forms.text(),
        "feedback": forms.one_of(
            "customer_service",
            "low_quality",
            "missing_features",
            "other",
            "switched_service",
            "too_complex",
            "too_expensive",
            "unused",
        ),
    }
)
BILLING_MODE = forms.table(
    {
        "type": forms.one_of("classic", "flexible"),
        "flexible": forms.table({"proration_discounts": forms.one_of("included")}),
    }
)
PRORATIONS = forms.one_of("create_prorations", "none", "always_invoice")
TRIAL_SETTINGS = forms.table(
    {
        "end_behavior": forms.table(
            {"missing_payment_method": forms.one_of("cancel", "create_invoice", "pause")},
        )
    }
)
INVOICE_SETTINGS = forms.table({"issuer": forms.table({"type": forms.one_of("self")})})
SHARED: forms.Table = {
    "automatic_tax": forms.table({"enabled": forms.boolean}),
    "cancel_at": forms.either("min_period_end", forms.either("max_period_end", forms.integer(0))),
    "cancel_at_period_end": forms.boolean,
    "collection_method": forms.one_of("charge_automatically", "send_invoice"),
    "days_until_due": forms.integer(0),
    "default_payment_method": forms.text(),
    "default_tax_rates": tax_rates.PARAMETER,
    "description": forms.text(500),
    "discounts": discounts.PARAMETER,
    "invoice_settings": INVOICE_SETTINGS,
    "metadata": forms.metadata,
    "payment_settings": forms.table({"save_default_payment_method": forms.one_of("off", "on_subscription")}),
    "proration_behavior": PRORATIONS,
    "trial_end": forms.either("now", forms.moment),
    "trial_settings": TRIAL_SETTINGS,
}
ITEM: forms.Table = {
    "discounts": discounts.PARAMETER,
    "metadata": forms.metadata,
    "price": forms.identifier,
    "quantity": forms.integer(0),
    "tax_rates": tax_rates.PARAMETER,
}
_MERGED = ("automatic_tax", "invoice_settings", "payment_settings", "trial_settings")


def kept(call: Call, params: Json, old: Json) -> Json:
    """The fields that are kept as they are sent: a table changes what it names of the old one."""
    fields: Json = {name: params[name] for name in ("description", "collection_method") if name in params}
    for name in _MERGED:
        if params.get(name) is not None:
            fields[name] = _merged(old[name], params[name])
    if fields.get("automatic_tax", {}).get("enabled"):
        fields["automatic_tax"]["liability"] = {"type": "self"}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    if "default_tax_rates" in params:
        fields["default_tax_rates"] = tax_rates.wanted(call, params["default_tax_rates"], "default_tax_rates")
    method = params.get("collection_method") or old["collection_method"]
    if params.get("days_until_due") is not None:
        if method != "send_invoice":
            raise bad_parameter(
                "You can only set `days_until_due` if `collection_method` is `send_invoice`.", "days_until_due"
            )
        fields["days_until_due"] = params["days_until_due"]
    elif method == "send_invoice" and old["days_until_due"] is None:
        raise bad_parameter(
            "You must provide `days_until_due` if `collection_method` is `send_invoice`.", "days_until_due"
        )
    return fields


def _merged(old: Json, new: Json) -> Json:
    return {**old, **{name: _merged(old.get(name) or {}, value) if isinstance(value, dict) else value
                      for name, value in new.items()}}  # fmt: skip


def trial_end(call: Call, params: Json, where: str = "{}") -> int | None:
    """When the trial ends; None without one. `where`: how the parameters' names stand in the request."""
    if params.get("trial_end") is not None and params.get("trial_period_days") is not None:
        raise bad_parameter(
            "You may only specify one of these parameters: trial_end, trial_period_days.", where.format("trial_end")
        )
    if params.get("trial_end") == "now":
        return None
    if params.get("trial_end") is not None:
        return future(call, params["trial_end"], where.format("trial_end"))
    days = params.get("trial_period_days")
    return call.now + days * 86400 if days else None


def future(call: Call, moment: int, param: str) -> int:
    if moment <= call.now:
        raise bad_parameter("Invalid timestamp: must be an integer Unix timestamp in the future.", param)
    return moment


def ending(call: Call, old: Json, params: Json) -> Json:
    """`cancel_at_period_end` and `cancel_at` say the same in two ways; unsetting either takes the cancellation back.

    The period's end is the earliest of the items'. `min_period_end` and `max_period_end` are resolved at once.
    """
    if params.get("cancel_at_period_end") and params.get("cancel_at"):
        raise bad_parameter(
            "You may only specify one of these parameters: cancel_at, cancel_at_period_end.", "cancel_at"
        )
    ends = [item["current_period_end"] for item in old["items"]["data"]]
    words = {"min_period_end": min(ends), "max_period_end": max(ends)}
    sent = params.get("cancel_at")
    if params.get("cancel_at_period_end"):
        at: int | None = min(ends)
    elif sent in words and old["billing_mode"]["type"] != "flexible":
        raise bad_parameter(f"`{sent}` is only supported when billing_mode is flexible.", "cancel_at")
    else:
        at = words.get(sent, sent) if sent else None
    if at is not None and at <= call.now:
        raise bad_parameter("The `cancel_at` timestamp must be in the future.", "cancel_at")
    return {
        "cancel_at": at,
        "cancel_at_period_end": bool(params.get("cancel_at_period_end")),
        "canceled_at": call.now if at else None,
        "cancellation_details": {
            **old["cancellation_details"],
            "reason": "cancellation_requested" if at else None,
        },
    }
