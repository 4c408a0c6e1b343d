"""The changes that your application is sent, as OpenAPI's `webhooks`: what arrives, with which headers, answered how.

The kinds are `billing.subscriptions.projection.CHANGES`, and a test holds what is really sent against it (API-102).
"""

from typing import Any

from pydantic import Field

from app.openapi.answers import Access, Answer, Subscription, Time
from billing.subscriptions.projection import CHANGES

WHEN = {
    "subscription.created": "It is there and not paid yet (`incomplete`), or in a status of none of the others.",
    "subscription.activated": "It is `active` or `trialing` now, and was neither before.",
    "subscription.updated": "Anything else about it changed: its plan, its period, a planned end, its money.",
    "subscription.past_due": "A renewal failed, and Stripe tries again.",
    "subscription.unpaid": "Stripe gave up trying, and keeps the subscription.",
    "subscription.paused": "Its trial ended without a card.",
    "subscription.canceled": "It is over, or Stripe does not know it any more.",
    "subscription.expired": "Its first payment never came.",
}
_TEXT = (
    " Sent to APP_WEBHOOK_URL, signed by Standard Webhooks: HMAC-SHA256 over `webhook-id.webhook-timestamp.body`."
    " One customer's changes come in order, each at least once: drop repetitions by `webhook-id`."
)
_HEADERS = (
    ("webhook-id", "The same each time this change is sent.", "msg_5f1d7a84db5e4fd09a3b4f8be0a4a3c2"),
    ("webhook-timestamp", "When this attempt was signed, in seconds since 1970.", "1767225600"),
    (
        "webhook-signature",
        "`v1,` and the signature; several are separated by spaces.",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
)


class ChangeData(Answer):
    """Whom and what a change is about, as it was when the change was seen."""

    user_id: str | None = Field(description="Null while no user has this Stripe customer")
    customer_id: str = Field(examples=["cus_9s6XKzkNRiz8i3"])
    access: Access
    subscription: Subscription


class Change(Answer):
    """A change of a subscription, as your application is sent it."""

    type: str
    timestamp: Time
    data: ChangeData


def webhooks() -> dict[str, Any]:
    """One entry for each kind of change."""
    return {kind: {"post": _post(kind)} for kind in sorted(CHANGES)}


def _post(kind: str) -> dict[str, Any]:
    exact = {"properties": {"type": {"const": kind}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Change"}, exact]}
    return {
        "operationId": "on" + "".join(word.capitalize() for word in kind.replace(".", "_").split("_")),
        "summary": WHEN[kind],
        "description": WHEN[kind] + _TEXT,
        "tags": ["Changes"],
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
                "example": one,
            }
            for name, text, one in _HEADERS
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "Taken: the next change of this customer is sent."},
            "default": {
                "description": "Not taken, as is no answer within 13 s: sent again for three days, later each time."
            },
        },
    }
