"""What Stripe's refusal means to a buyer, by what Stripe has, never by its words.

Stripe bills a customer in one currency at a time, and names neither a code nor a parameter when a price is in another
one. So the currencies of the customer and of the price are read after a refusal, and compared (CHK-31, SUB-87).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from billing.checkout.rules import Attempt
from billing.errors import OPERATORS, StripeMisconfigured, StripeRefused
from billing.models import CheckoutStatus
from billing.stripe_gateway import StripeGateway


class CurrencyMismatch(StripeRefused):
    """Stripe bills the customer in another currency than the plan's price has. The buyer reads both."""

    code = "currency_mismatch"

    def __init__(self, refused: StripeRefused, *, customer: str, plan: str) -> None:
        super().__init__(refused.sentence, status=refused.status, stripe_code=refused.stripe_code, param=refused.param)
        self.currencies = {"customer_currency": customer, "plan_currency": plan}

    @property
    def record(self) -> dict[str, Any]:
        """With both currencies."""
        customer, plan = (currency.upper() for currency in self.currencies.values())
        detail = (
            f"Stripe bills this customer in {customer}, and this plan is sold in {plan}."
            f" Choose a plan in {customer}, or ask for help."
        )
        return super().record | {"detail": detail, **self.currencies}


def explain(
    refused: StripeRefused | StripeMisconfigured, attempt: Attempt, *, stripe: StripeGateway
) -> tuple[CheckoutStatus, dict[str, Any]]:
    """The status and the error of the checkouts that this attempt was for. Raises StripeUnclear."""
    if isinstance(refused, StripeMisconfigured):
        return CheckoutStatus.FAILED, refused.record
    read_customer = partial(stripe.get_customer, attempt.parameters["customer"])
    try:
        refused = by_currency(refused, read_customer, attempt.parameters["line_items"][0]["price"], stripe=stripe)
    except StripeMisconfigured as lacking:
        return CheckoutStatus.FAILED, refused.record | {OPERATORS: f"{refused.sentence} {lacking.sentence}"}
    mismatch = isinstance(refused, CurrencyMismatch)
    return CheckoutStatus.REFUSED if mismatch else CheckoutStatus.FAILED, refused.record


def by_currency(
    refused: StripeRefused, read_billed: Callable[[], Mapping[str, Any]], price_id: str, *, stripe: StripeGateway
) -> StripeRefused:
    """The refusal, as a CurrencyMismatch where what is billed and the price have two currencies.

    Raises StripeUnclear and StripeMisconfigured.
    """
    try:
        billed, price = stripe.in_parallel(read_billed, partial(stripe.get_price, price_id))
    except StripeRefused:  # there is no such price, or no such customer: that is what was refused
        return refused
    bound, sold = billed.get("currency"), price.get("currency")
    if not bound or not sold or bound in (sold, *(price.get("currency_options") or ())):
        return refused
    return CurrencyMismatch(refused, customer=bound, plan=sold)
