"""Closing a lane for good: its page is expired, and nobody in flight can open another one.

For somebody who is erased: `lane_store.shut` has turned away whoever waited and raised the version, so that every
worker with an older view loses its next compare-and-set, and no arrival is numbered any more. What is left is what a
worker began, and that is brought to its end by the protocol's own steps, with the lock or without it (LAN-1).
"""

from billing.checkout import lane_store
from billing.checkout.steps import Context, close_session, create
from billing.checkout.verify import Verdict, verify
from billing.checkout.work import MOST_ROUNDS
from billing.errors import TransientError
from billing.locks import Locks
from billing.models import LaneState


def close_lane(lane_id: int, *, ctx: Context, locks: Locks) -> None:
    """Bring a shut lane to `closed`. Raises the gateway's errors, and TransientError while others keep changing it."""
    with locks.hold(f"lane:{lane_id}"):  # a hint: whoever else holds it is stopped by the rows
        for _ in range(MOST_ROUNDS):
            with ctx.database.read() as connection:
                seen = lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())
            assert seen is not None, "a lane is never deleted"
            match seen.lane.state:
                case LaneState.CLOSED:
                    return
                case LaneState.CREATING:  # adopted and finished: an attempt on its way could make a page later on
                    create(seen, ctx)
                case LaneState.OPEN:
                    with ctx.database.write() as connection:
                        lane_store.move(connection, seen.lane, LaneState.CLOSING)
                case LaneState.CLOSING:
                    close_session(seen, ctx)
    raise TransientError("A worker keeps changing this user's lane. Try again in a minute.")


def look_at_closed(lane_id: int, customer_id: str, ctx: Context) -> Verdict:
    """What could still bill the customer of a closed lane; its strays are expired on the way. Raises as `verify`."""
    with ctx.database.read() as connection:
        seen = lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())
    recorded = seen.recorded if seen else ()
    return verify(customer_id, recorded=recorded, owned=lambda: (None, None), stripe=ctx.stripe, catalog=ctx.catalog)
