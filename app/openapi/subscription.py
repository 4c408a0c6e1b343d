"""Routes for a user's subscription, the plans, and the changes of a subscription."""

from pydantic import BaseModel

from app.bodies import schemas
from app.openapi import answers
from app.openapi.entry import ANSWER, AUTH, BUYER, EVERY, LANE, OPEN, SERVER, Operation


def _change(
    method: str,
    path: str,
    name: str,
    summary: str,
    text: str,
    *,
    bodies: tuple[type[BaseModel], ...] = (),
    parameters: tuple[str, ...] = (),
    problems: tuple[str, ...] = (),
) -> Operation:
    """A route that changes a subscription. All of these have the same answers."""
    waits = " Waits like a checkout; what takes longer is answered with 202 and read at `Location`."
    answered = ("IdempotentReplayed", "PreferenceApplied")
    return Operation(
        method,
        path,
        name,
        summary,
        text + waits,
        "Subscription",
        who=(BUYER, SERVER),
        bodies=bodies,
        body_required=bool(bodies) and schemas.NoBody not in bodies,
        parameters=(*parameters, "IdempotencyKey", "Prefer"),
        answers={200: ("Done", answers.Operation), 202: ("Not done yet: ask at `Location`", answers.Operation)},
        headers={
            200: answered,
            202: ("Location", "RetryAfter", *answered),
            409: answered,
            422: answered,
            502: answered,
            503: ("Location", *answered),
        },
        problems=("no_subscription", *LANE, *problems),
    )


SUBSCRIPTION: tuple[Operation, ...] = (
    Operation(
        "get",
        "/v1/subscription",
        "readSubscription",
        "Read access and subscription",
        "Whether the user may use the product, decided from what Stripe last said. Where the catalog gives new users a"
        " trial of the product, their first call begins it.",
        "Subscription",
        who=(BUYER, SERVER),
        parameters=("UserIdQuery",),
        answers={200: ("Access, and the subscription if there is one", answers.SubscriptionAnswer)},
        problems=(*AUTH, *EVERY, "bad_request", "invalid_request", "rate_limited"),
    ),
    _change(
        "post",
        "/v1/subscription/cancel",
        "cancelSubscription",
        "Cancel at the end of the period",
        "Access stays until then. A planned change of plan is taken back first. Of several subscriptions to the product"
        " all end; where one cannot be ended here, the 409 says in `still_billing` which one goes on and why.",
        bodies=(schemas.NoBody, schemas.ServerBody),
        problems=("already_canceling", "managed_elsewhere"),
    ),
    _change(
        "post",
        "/v1/subscription/reactivate",
        "reactivateSubscription",
        "Take a cancellation back",
        "Where none is planned, nothing is changed and the answer is the same. An end that was fixed before the"
        " cancellation holds again.",
        bodies=(schemas.NoBody, schemas.ServerBody),
        problems=("managed_elsewhere",),
    ),
    _change(
        "post",
        "/v1/subscription/switch",
        "switchPlan",
        "Change the plan at the end of the period",
        "The same subscription goes on with the other plan's price; nothing is billed before. Add-ons, discounts, tax"
        " rates and metadata stay.",
        bodies=(schemas.SwitchBody, schemas.ServerSwitchBody),
        problems=("already_on_plan", "already_canceling", "managed_elsewhere", "not_switchable", "currency_mismatch"),
    ),
    _change(
        "delete",
        "/v1/subscription/switch",
        "undoSwitch",
        "Take a planned change of plan back",
        "Where none is planned, nothing is changed and the answer is the same. With a server key, name the user in"
        " the body or as `?user_id=`.",
        bodies=(schemas.NoBody, schemas.ServerBody),
        parameters=("UserIdQuery",),
        problems=("managed_elsewhere",),
    ),
    _change(
        "post",
        "/v1/portal-sessions",
        "openPortal",
        "Open Stripe's billing portal",
        "Send the user to `url` at once: the address alone allows changes of the subscription.",
        bodies=(schemas.PortalBody, schemas.ServerPortalBody),
    ),
    Operation(
        "get",
        "/v1/operations/{id}",
        "readOperation",
        "Read an operation",
        "What became of a change that was answered with 202. `Prefer: wait=N` holds the answer back until it is no"
        " longer `pending`.",
        "Subscription",
        who=(BUYER, SERVER),
        parameters=("OperationId", "UserIdQuery", "Prefer"),
        answers={200: ("The operation, whatever became of it", answers.Operation)},
        headers={200: ("RetryAfter", "PreferenceApplied")},
        problems=ANSWER,
    ),
    Operation(
        "get",
        "/v1/plans",
        "listPlans",
        "List the plans",
        "The catalog's public part. No login needed.",
        "Subscription",
        answers={200: ("The plans", answers.Plans)},
        problems=OPEN,
    ),
)
