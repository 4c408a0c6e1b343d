"""What a refused creation of a session means to its buyers, by what Stripe has, never by its words.

Stripe bills a customer in one currency at a time, and names neither a code nor a parameter when a session is in
another one. So the currencies of the customer and of the price are read after a refusal, and compared (CHK-31).
"""

from functools import partial
from typing import Any

from billing.checkout.rules import Attempt
from billing.errors import OPERATORS, StripeMisconfigured, StripeRefused
from billing.models import CheckoutStatus
from billing.stripe_gateway import StripeGateway

_OTHER_CURRENCY = (
    "Stripe bills this customer in {customer}, and this plan is sold in {plan}. Choose a plan in {customer}, or ask for"
    " help."
)


def explain(
    refused: StripeRefused | StripeMisconfigured, attempt: Attempt, *, stripe: StripeGateway
) -> tuple[CheckoutStatus, dict[str, Any]]:
    """The status and the error of the checkouts that this attempt was for. Raises StripeUnclear."""
    record = refused.record
    if isinstance(refused, StripeMisconfigured):
        return CheckoutStatus.FAILED, record
    try:
        customer, price = stripe.in_parallel(
            partial(stripe.get_customer, attempt.parameters["customer"]),
            partial(stripe.get_price, attempt.parameters["line_items"][0]["price"]),
        )
    except StripeRefused:  # there is no such price, or no such customer: that is what was refused
        return CheckoutStatus.FAILED, record
    except StripeMisconfigured as lacking:
        return CheckoutStatus.FAILED, record | {OPERATORS: f"{refused.sentence} {lacking.sentence}"}
    bound, sold = customer.get("currency"), price.get("currency")
    if not bound or not sold or bound == sold:
        return CheckoutStatus.FAILED, record
    detail = _OTHER_CURRENCY.format(customer=bound.upper(), plan=sold.upper())
    currencies = {"customer_currency": bound, "plan_currency": sold}
    return CheckoutStatus.REFUSED, record | {"code": "currency_mismatch", "detail": detail, **currencies}
