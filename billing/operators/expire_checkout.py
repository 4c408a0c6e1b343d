"""`onelane checkouts expire`: a person ends a buyer's open payment page, by the lane protocol.

Step 9 of the protocol, as a worker takes it for a stale page: the lane moves from open to closing by compare-and-set.
A worker then expires the session under the lane's lock and closes the lane (steps 10 and 11). Nothing is expired here.
One that was paid meanwhile is noted as completed, and its buyer keeps what they bought.
"""

from dataclasses import dataclass

import structlog

from billing.checkout import lane_store
from billing.checkout.checkout_store import read_attempt_of
from billing.checkout.view import read_view
from billing.clock import Clock
from billing.coordination.jobs import WorkLane
from billing.coordination.queue import Queue
from billing.database import Database
from billing.errors import NotFound, PermanentError, StaleWrite
from billing.models import AttemptOutcome, CheckoutStatus, LaneState

log = structlog.get_logger(__name__)


class NotOpen(PermanentError):
    """The checkout has no open payment page."""

    code = "not_open"


@dataclass(frozen=True, slots=True)
class Expiry:
    """An expiry that was begun. `session_id` is Stripe's."""

    checkout_id: str
    lane_id: int
    nonce: str
    session_id: str


def begin_expiry(checkout_id: str, *, database: Database, queue: Queue, clock: Clock) -> Expiry:
    """Have the page of an open checkout expired, and wake a worker for it.

    Raises NotFound, NotOpen, StaleWrite (another worker changed the lane just now) and LedgerUnavailable.
    """
    with database.write() as connection:
        view = read_view(connection, checkout_id, now=clock.now())
        if view is None:
            raise NotFound("checkout")
        if view.status is not CheckoutStatus.OPEN:
            raise NotOpen(f"This checkout is {view.status.value}: it has no open payment page.")
        lane_id, nonce = read_attempt_of(connection, checkout_id)
        lane = lane_store.read_lane(connection, lane_id)
        assert lane is not None, "a lane is never deleted"
        assert nonce is not None, "it is open"
        is_its_own = lane.state is LaneState.OPEN and lane.nonce == nonce
        if not is_its_own or not lane_store.move(connection, lane, LaneState.CLOSING):  # step 9 (LAN-10)
            raise StaleWrite("A worker is changing this checkout just now. Try again in a moment.")
    queue.send(WorkLane(lane_id))
    log.info("checkout.expiry_begun", checkout_id=checkout_id, lane_id=lane_id, session_id=view.session_id)
    return Expiry(checkout_id, lane_id, nonce, str(view.session_id))


def look_up_expiry(expiry: Expiry, *, database: Database) -> AttemptOutcome | None:
    """What became of it; None while no worker has ended it."""
    with database.read() as connection:
        return lane_store.read_outcome(connection, expiry.nonce)
