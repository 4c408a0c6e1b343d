"""Test cards: by its number a card decides what becomes of a payment and of a refund, as Stripe documents its own.

A card is named by its token (`pm_card_visa`) wherever Stripe takes one. The bank behind a card may change its mind:
`_declines` on the payment method, which the control plane sets.
"""

from dataclasses import dataclass

from .errors import ApiError, Json, missing_object

DECLINED = "Your card was declined."


@dataclass(frozen=True)
class Card:
    """`declines`: the decline code of a charge. `attaches`: whether a customer can have it."""

    last4: str
    declines: str | None = None
    attaches: bool = True
    refund: str = "succeeded"  # or pending, or failed: what becomes of one
    asks: bool = False  # for authentication, when the buyer is there
    disputed: str | None = None  # the status of the dispute that each charge of it gets
    always: bool = False  # and at each charge later, when they are not


CARDS = {
    "pm_card_visa": Card("4242"),
    "pm_card_chargeCustomerFail": Card("0341", declines="generic_decline"),
    "pm_card_chargeDeclined": Card("0002", declines="generic_decline", attaches=False),
    "pm_card_chargeDeclinedInsufficientFunds": Card("9995", declines="insufficient_funds", attaches=False),
    "pm_card_authenticationRequired": Card("3184", asks=True, always=True),
    "pm_card_authenticationRequiredOnSetup": Card("3155", asks=True),
    "pm_card_threeDSecure2Required": Card("3220", asks=True, always=True),
    "pm_card_createDispute": Card("0259", disputed="needs_response"),
    "pm_card_createDisputeInquiry": Card("1976", disputed="warning_needs_response"),
    "pm_card_pendingRefund": Card("7726", refund="pending"),
    "pm_card_refundFail": Card("5126", refund="failed"),
}
_BY_LAST4 = {card.last4: card for card in CARDS.values()}
_MESSAGES = {"insufficient_funds": "Your card has insufficient funds."}


def named(token: str, param: str = "payment_method", sent: str | None = None) -> Card:
    """The test card that a token names; `sent` is how the request named it."""
    if (card := CARDS.get(token)) is None:
        raise missing_object("PaymentMethod" if sent is None else "token", sent or token, param=param, status=400)
    return card


def behind(method: Json) -> Card:
    """The test card behind a payment method; one that somebody planted is an ordinary Visa."""
    return _BY_LAST4.get((method.get("card") or {}).get("last4", ""), CARDS["pm_card_visa"])


def decline_code(method: Json) -> str | None:
    """Why a charge of this card is declined now; None where it is not."""
    return method.get("_declines") or behind(method).declines


def declined(code: str, *, intent: Json | None = None, charge: str | None = None, param: str | None = None) -> ApiError:
    """402, as an API call gets it. The attempt stays on record."""
    error = ApiError(
        402,
        message(code),
        type="card_error",
        code="card_declined",
        param=param,
        saved=True,
        keeps_changes=True,
        decline_code=code,
    )
    error.more.update({name: value for name, value in (("payment_intent", intent), ("charge", charge)) if value})
    return error


def asked(code: str, of: str) -> ApiError:
    """402 where the bank wants to hear from the buyer, who is not there. What an invoice tried stays on record."""
    return ApiError(
        402,
        "This payment requires additional user action before it can be completed successfully. Payment can be completed"
        f" using the PaymentIntent associated with the {of}.",
        type="card_error",
        code=code,
        saved=True,
        keeps_changes=of == "invoice",
    )


def message(code: str) -> str:
    return _MESSAGES.get(code, DECLINED)
