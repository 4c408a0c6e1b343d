"""The CLI's triggers in the words of today's API version, and what their buyers do.

Some triggers send parameters that Stripe has renamed or removed since; the CLI's own options put today's in their
place. Stripe's payment page is no public API: its steps are left out, and the control plane pays in the buyer's place.
"""

from collections.abc import Callable
from typing import Any

Ask = Callable[[str, bytes | None], Any]

_CARD = ("--remove", "payment_intent:payment_method_types")
_CODE = (
    "--remove", "promotion_code:coupon",
    "--add", "promotion_code:promotion[type]=coupon",
    "--add", "promotion_code:promotion[coupon]=${coupon:id}",
)  # fmt: skip


def _phases(count: int) -> tuple[str, ...]:
    """So many months, in place of the `iterations` that phases had."""
    sent = [
        f"{index}][{each}"
        for index in range(count)
        for each in ("items][0][price]=${price:id}", f"items][0][quantity]={index + 1}", "duration][interval]=month")
    ]
    return ("--remove", "subscription_schedule:phases",
            *(word for each in sent for word in ("--add", f"subscription_schedule:phases[{each}")))  # fmt: skip


# Seven days before the end of the trigger's schedule, when Stripe's documents say that it is told. The trigger goes to
# nine days before it.
_A_WEEK_BEFORE = ("--override", "advance_test_clock:frozen_time=1579651200")
_PAGE = ("--skip", "payment_page", "--skip", "payment_method", "--skip", "payment_page_confirm")
_DEBIT = ("--remove", "checkout_session:payment_method_types", *_PAGE)

OPTIONS: dict[str, tuple[str, ...]] = {
    "charge.dispute.closed": _CARD,
    "charge.dispute.created": _CARD,
    "charge.dispute.updated": _CARD,
    "charge.refund.updated": _CARD,
    "charge.refunded": _CARD,
    "checkout.session.async_payment_failed": _DEBIT,
    "checkout.session.async_payment_succeeded": _DEBIT,
    "checkout.session.completed": _PAGE,
    "promotion_code.created": _CODE,
    "promotion_code.updated": _CODE,
    "subscription_schedule.canceled": _phases(2),
    "subscription_schedule.completed": _phases(1),
    "subscription_schedule.created": _phases(2),
    "subscription_schedule.expiring": _A_WEEK_BEFORE,
    "subscription_schedule.released": _phases(2),
    "subscription_schedule.updated": _phases(2),
}
# What the version no longer has, and nothing in its place: the trigger is sent as it is, and refused for this.
GONE = {f"customer.discount.{what}": "Received unknown parameter: coupon" for what in ("created", "deleted", "updated")}


def as_the_buyer(name: str, sandbox: str, ask: Ask) -> None:
    """Pays the session that a trigger has opened, at once or by money that comes later, or not."""
    if name not in OPTIONS or not name.startswith("checkout."):
        return
    session = ask(f"{sandbox}/v1/checkout/sessions?limit=1", None)["data"][0]["id"]
    page = f"{sandbox}/_sandbox/checkout_sessions/{session}"
    late = "async" in name
    ask(f"{page}/pay", b'{"delayed": true}' if late else b"{}")
    if late:
        ask(f"{page}/settle", b'{"succeeds": true}' if name.endswith("succeeded") else b'{"succeeds": false}')
