"""The web's half of a checkout: record it (step 0), and read what became of it.

What arrives is a body of checked types and a user. What leaves is a row that a worker answers. Reading gives a URL only
through the lane: `state = open AND nonce = the checkout's`, at the moment of the SELECT (CHK-6).
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.checkout.checkout_store import differs_from_last
from billing.checkout.rules import fingerprint
from billing.checkout.session_parameters import terms
from billing.checkout.view import CheckoutView, read_view
from billing.clock import Clock
from billing.coordination.jobs import WorkLane
from billing.coordination.queue import Queue
from billing.customers import store as customers_store
from billing.customers.store import find_lane, next_number, open_lane
from billing.database import Database, run_in_transaction
from billing.errors import InvalidRequest, NotFound
from billing.models import CheckoutStatus, checkouts
from billing.rules import idempotency
from billing.rules.ids import new_id
from billing.rules.product_tag import LONGEST_NAME, RESERVED_NAMES

# Stripe's own limits are 50 keys of 40 characters with values of 500; 20 leaves room for ours.
MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 20, LONGEST_NAME, 500
MOST_METADATA_BYTES = 8 * 1024  # of UTF-8, names and values together: 20 values of 400 letters
LONGEST_ADDRESS = 2000  # what every browser and proxy takes
# Printable ASCII without space, double quotes, backslash and angle brackets; { } stay for {CHECKOUT_SESSION_ID}.
_PLAIN_ADDRESS = re.compile(r"https?://[!#-;=?-\[\]_a-z{}~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """The body of POST /v1/checkouts, its types already checked; `quantity` None where none was sent."""

    plan: str
    success_url: str
    cancel_url: str
    quantity: int | None = None
    client_reference_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A checkout that is in the ledger.

    `replayed`: an earlier call with the same key made it. `enqueued`: the broker took the job for it.
    """

    checkout_id: str
    replayed: bool
    enqueued: bool


def record_checkout(
    request: CheckoutRequest,
    *,
    user_id: str,
    email: str | None,
    idempotency_key: str | None,
    database: Database,
    queue: Queue,
    clock: Clock,
    catalog: Catalog,
    redirect_origins: Collection[str],
    by_server: bool = True,
    count_different: Callable[[], None] = lambda: None,
) -> Recorded:
    """Record a checkout and wake a worker (step 0). `by_server`: whether the application's own server asks.

    `count_different` is called before a checkout that says something else than this buyer's last one is recorded, with
    no transaction open; what it raises is raised. Raises InvalidRequest, IdempotencyMismatch, UserErased and
    LedgerUnavailable.
    """
    check_request(request, catalog=catalog, redirect_origins=redirect_origins, by_server=by_server)
    plan = catalog.plans[request.plan]
    # What is compared and sold is whole: no quantity means the least that the plan sells (CHK-35).
    body = {**asdict(request), "quantity": None if plan.metered else request.quantity or plan.min_quantity}
    checkout_id = new_id("chk")
    values: dict[str, Any] = {
        "id": checkout_id,
        "user_id": user_id,
        "plan": request.plan,
        "price_id": plan.price,
        "request": body,
        "fingerprint": fingerprint(body, plan.price, terms=terms(plan, catalog)),
        "body_hash": fingerprint(body),
        "status": CheckoutStatus.PENDING,
        "idempotency_key": idempotency_key,
    }

    def record(connection: sa.Connection, *, counted: bool) -> tuple[int, str | None]:
        lane_id = find_lane(connection, user_id=user_id, product=catalog.product)
        if lane_id is None:
            customers_store.open_customer(connection, user_id=user_id, email=email, now=clock.now())
            lane_id = open_lane(connection, user_id=user_id, product=catalog.product)
        # Numbering locks the lane row: what follows sees every earlier checkout of this user, and their times are in
        # the order of their numbers. Taken before, a hundred at once would all have arrived before the first is here.
        values.update(lane_id=lane_id, number=next_number(connection, lane_id))
        values["arrived_at"] = clock.now()
        earlier = idempotency.find_earlier(connection, checkouts, values)
        if earlier is None:
            if not counted and differs_from_last(connection, lane_id, values["body_hash"]):
                raise _Different  # which leaves nothing behind
            idempotency.insert(connection, checkouts, values)
        return lane_id, earlier

    try:
        lane_id, earlier = run_in_transaction(database, partial(record, counted=False))
    except _Different:
        count_different()
        lane_id, earlier = run_in_transaction(database, partial(record, counted=True))
    structlog.contextvars.bind_contextvars(checkout_id=earlier or checkout_id)
    enqueued = queue.send(WorkLane(lane_id))
    return Recorded(earlier or checkout_id, replayed=earlier is not None, enqueued=enqueued)


class _Different(Exception):
    """The lane's newest checkout had another body."""


def read_checkout(checkout_id: str, *, user_id: str, database: Database, clock: Clock) -> CheckoutView:
    """The checkout as it is now. Raises NotFound, also for another user's."""
    with database.read() as connection:
        view = read_view(connection, checkout_id, now=clock.now())
    if view is None or view.user_id != user_id:
        raise NotFound("checkout")
    return view


def check_request(
    request: CheckoutRequest, *, catalog: Catalog, redirect_origins: Collection[str], by_server: bool
) -> None:
    """Refuse what the catalog does not sell or the operator does not allow. Raises InvalidRequest with pointers."""
    wrong: list[tuple[str, str]] = []
    plan = catalog.plans.get(request.plan)
    if plan is None:
        wrong.append(("/plan", f"is not sold here; the plans are {', '.join(catalog.plans)}"))
    elif plan.metered and request.quantity is not None:
        wrong.append(("/quantity", "must be left out for this plan, which is billed by use"))
    elif request.quantity is not None and not plan.min_quantity <= request.quantity <= plan.max_quantity:
        wrong.append(("/quantity", f"must be from {plan.min_quantity} to {plan.max_quantity} for this plan"))
    for name, address in (("success_url", request.success_url), ("cancel_url", request.cancel_url)):
        if reason := redirect_error(address, origins=redirect_origins):
            wrong.append((f"/{name}", reason))
    wrong += _wrong_metadata(request.metadata, allowed=None if by_server else catalog.metadata.from_buyers)
    if wrong:
        raise InvalidRequest("The checkout request is not valid; see errors.", *wrong)


def redirect_error(address: str, *, origins: Collection[str]) -> str | None:
    """Why a buyer may not be sent to this address; None when they may.

    A browser reads an odd address (backslashes, userinfo, look-alike hosts) in another way than a parser. So only plain
    ASCII addresses with an allowed scheme, host and port pass (CHK-9).
    """
    if len(address) > LONGEST_ADDRESS:
        return f"is longer than {LONGEST_ADDRESS} characters"
    if not _PLAIN_ADDRESS.fullmatch(address):
        return "must be a plain absolute http(s) address"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "is no valid address"
    if "@" in parts.netloc or not parts.hostname:
        return "must name a host and no user"
    default = port is None or port == _DEFAULT_PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname  # IPv6
    origin = f"{parts.scheme}://{host}" + ("" if default else f":{port}")
    if origin not in origins:
        return "has an origin that is not in REDIRECT_ORIGINS"
    return None


def _wrong_metadata(metadata: Mapping[str, str], *, allowed: Collection[str] | None) -> list[tuple[str, str]]:
    """Each name that may not be set; `allowed` are those that a buyer's token may (CHK-36)."""
    if len(metadata) > MOST_METADATA:
        return [("/metadata", f"has more than {MOST_METADATA} keys")]
    size = sum(len(text.encode()) for pair in metadata.items() for text in pair)
    if size > MOST_METADATA_BYTES:
        most = f"{MOST_METADATA_BYTES} is the most for all names and values together"
        return [("/metadata", f"has {size} bytes of UTF-8; {most}")]
    wrong: list[tuple[str, str]] = []
    for key, value in metadata.items():
        pointer = "/metadata/" + key[:LONGEST_KEY].replace("~", "~0").replace("/", "~1")
        if re.match(RESERVED_NAMES, key):
            wrong.append((pointer, "is a name that onelane uses itself"))
        elif not key or len(key) > LONGEST_KEY or "[" in key or "]" in key:
            wrong.append((pointer, f"must be 1 to {LONGEST_KEY} characters without square brackets"))
        elif allowed is not None and key not in allowed:
            wrong.append((pointer, "is a name that only the application's server may set"))
        elif not value or len(value) > LONGEST_VALUE:
            wrong.append((pointer, f"must have a value of 1 to {LONGEST_VALUE} characters"))
    return wrong
