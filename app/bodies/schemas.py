"""Bodies as pydantic models: checked with them, and documented from them (answers: `app/openapi/answers.py`).

Shapes only. What is sold, which addresses are allowed and what metadata may say is decided in `billing`.
"""

from typing import Annotated, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from billing.catalog import MOST_QUANTITY
from billing.checkout.requests import LONGEST_ADDRESS, LONGEST_KEY, LONGEST_VALUE, MOST_METADATA
from billing.rules.ids import CUSTOMER, MAX_USER_ID, is_user_id
from billing.rules.product_tag import RESERVED_NAMES


def _printable(value: str) -> str:
    if not is_user_id(value):
        raise ValueError(f"must be 1 to {MAX_USER_ID} printable characters")
    return value


# For the document only, and as far as every client's regular expressions go: the code refuses in words of its own.
PRINTABLE = r"^[^\u0000-\u001f\u007f-\u00a0\ufffd]+$"
_NO_NUL = r"^[^\u0000]*$"
_METADATA_KEY = rf"^(?!{RESERVED_NAMES})[^\[\]\u0000]{{1,{LONGEST_KEY}}}$"

UserId = Annotated[
    str,
    AfterValidator(_printable),
    Field(min_length=1, max_length=MAX_USER_ID, json_schema_extra={"pattern": PRINTABLE}),
]
Reference = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": _NO_NUL})]


class Strict(BaseModel):
    """A body: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NoBody(Strict):
    """Nothing: the buyer's token says whose subscription it is."""


class ServerBody(Strict):
    """The same from the application's own server, which names the user."""

    user_id: UserId = Field(description="The user", examples=["user_1"])


class CheckoutBody(Strict):
    """What a buyer asks for. The plan decides the price."""

    plan: str = Field(min_length=1, max_length=63, description="A plan's key in the catalog", examples=["standard"])
    success_url: str = Field(
        min_length=1,
        max_length=LONGEST_ADDRESS,
        description="Where the buyer goes after paying. Its origin must be one of REDIRECT_ORIGINS",
        examples=["https://app.example.com/billing?paid=1"],
    )
    cancel_url: str = Field(
        min_length=1,
        max_length=LONGEST_ADDRESS,
        description="Where the buyer goes after leaving the payment page",
        examples=["https://app.example.com/billing"],
    )
    quantity: int = Field(
        cast("int", None),  # not sent; null is refused
        ge=1,
        le=MOST_QUANTITY,
        description="How many; the plan says how many there may be. Left out: the least. A plan that is billed by use"
        " takes none",
    )
    client_reference_id: Reference | None = Field(
        None, description="Your own reference; the user's id where none is sent"
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        max_length=MOST_METADATA,
        description="Your own notes, copied to the session and the subscription, and shown with them: 8 KiB of UTF-8"
        " in all. `type`, `nonce` and `onelane_*` are refused. With a buyer's token only the names that the catalog"
        " allows",
        json_schema_extra={
            "propertyNames": {"pattern": _METADATA_KEY},
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": LONGEST_VALUE,
                "pattern": _NO_NUL,
            },
        },
    )


class ServerCheckoutBody(CheckoutBody, ServerBody):
    """The same from the application's own server, which names the user."""


class SwitchBody(Strict):
    """The plan that is to come at the end of the period."""

    plan: str = Field(min_length=1, max_length=63, description="A plan's key in the catalog", examples=["commit"])


class ServerSwitchBody(SwitchBody, ServerBody):
    """The same from the application's own server, which names the user."""


class PortalBody(Strict):
    """Where the portal leads back to."""

    return_url: str = Field(
        min_length=1,
        max_length=LONGEST_ADDRESS,
        description="Where the user comes back to. Its origin must be one of REDIRECT_ORIGINS",
        examples=["https://app.example.com/billing"],
    )


class ServerPortalBody(PortalBody, ServerBody):
    """The same from the application's own server, which names the user."""


class CustomerBody(Strict):
    """An existing Stripe customer."""

    customer_id: str = Field(
        min_length=1,
        max_length=255,
        examples=["cus_9s6XKzkNRiz8i3"],
        json_schema_extra={"pattern": f"^{CUSTOMER.pattern}$"},
    )
