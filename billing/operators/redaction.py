"""Redaction: an event's payload without what is personal or secret. Pure; allows by kind, so what is new is hidden.

Kept are numbers, booleans, Stripe's ids and Stripe's own words (`active`, `card_declined`). Everything below a name in
PERSONAL is hidden, and so is every other text: names, emails, addresses, free text, links, secrets.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
# Below these nothing is shown but that it is there. Metadata are the application's, but for our own keys.
PERSONAL = frozenset(
    """
    account_name account_number account_tax_ids address billing_details bank_account business_profile card
    collected_information custom_fields customer_address customer_details customer_email customer_name
    customer_phone customer_shipping customer_tax_ids description email evidence individual ip ip_address last4
    line1 line2 name owner payment_method_details phone postal_code receipt_email sepa_debit shipping
    shipping_details statement_descriptor tax_id user_agent verified_address verified_name
    """.split()  # noqa: SIM905  # forty names, each on a line of its own, are no easier to read
)
OURS = frozenset({"type", "plan", "onelane_nonce", "nonce"})  # of metadata
_STRIPES = re.compile(r"[a-z]{2,12}_[A-Za-z0-9_]{1,120}|[a-z][a-z0-9_.]{0,79}|\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
_SECRET = re.compile(r"(secret|key|token|password|url)$")


def redact(value: Any, name: str = "") -> Any:
    """The value with the same shape, each text in it that is not Stripe's own replaced by HIDDEN."""
    if value is None or isinstance(value, bool):
        return value
    if name in PERSONAL or _SECRET.search(name):
        return HIDDEN
    if isinstance(value, Mapping):
        if name == "metadata":
            return {key: redact(each, key) if key in OURS else HIDDEN for key, each in value.items()}
        return {key: redact(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [redact(each, name) for each in value]
    if isinstance(value, str):
        return value if _STRIPES.fullmatch(value) else HIDDEN
    return value
