"""Routes for a checkout: ask for one, and read it."""

from app.bodies import schemas
from app.openapi import answers
from app.openapi.entry import ANSWER, BUYER, LANE, SERVER, Operation

CHECKOUTS: tuple[Operation, ...] = (
    Operation(
        "post",
        "/v1/checkouts",
        "createCheckout",
        "Ask for a checkout",
        "Records the request and waits for the payment page: `CHECKOUT_WAIT_SECONDS`, or what `Prefer: wait=N` says."
        " Calls of one user at the same time end with one page: equal ones share it, of different ones the newest"
        " wins. With a server key the body names the `user_id`.",
        "Checkouts",
        who=(BUYER, SERVER),
        bodies=(schemas.CheckoutBody, schemas.ServerCheckoutBody),
        parameters=("IdempotencyKey", "Prefer"),
        answers={
            200: ("Only for a repeated Idempotency-Key: that checkout is over by now", answers.Checkout),
            201: ("The payment page is open: send the buyer to `url`", answers.Checkout),
            202: ("Not ready yet: ask at `Location`", answers.Checkout),
        },
        headers={
            200: ("IdempotentReplayed", "PreferenceApplied"),
            201: ("Location", "IdempotentReplayed", "PreferenceApplied"),
            202: ("Location", "RetryAfter", "IdempotentReplayed", "PreferenceApplied"),
            409: ("IdempotentReplayed", "PreferenceApplied"),
            502: ("IdempotentReplayed", "PreferenceApplied"),
            503: ("Location", "IdempotentReplayed", "PreferenceApplied"),
        },
        problems=("already_subscribed", *LANE, "superseded", "currency_mismatch"),
    ),
    Operation(
        "get",
        "/v1/checkouts/{id}",
        "readCheckout",
        "Read a checkout",
        "The checkout as it is now. `Prefer: wait=N` holds the answer back until it is no longer `pending`.",
        "Checkouts",
        who=(BUYER, SERVER),
        parameters=("CheckoutId", "UserIdQuery", "Prefer"),
        answers={200: ("The checkout in any status", answers.Checkout)},
        headers={200: ("RetryAfter", "PreferenceApplied")},
        problems=ANSWER,
    ),
)
