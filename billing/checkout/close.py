"""Close the lane of an erased user for good: its session is expired, and no worker can open another one.

Erasure has already refused the waiting checkouts and raised the lane's version. So a worker with an older view loses
its next compare-and-set, and no arrival is numbered any more. What a worker had begun is brought to its end here by
the protocol's own steps, with the lock or without it (LAN-1).
"""

from billing.checkout import lane_store
from billing.checkout.context import Context
from billing.checkout.steps import close_session, create
from billing.checkout.verify import Verdict, verify
from billing.checkout.work import MOST_ROUNDS
from billing.coordination.locks import lock_name
from billing.errors import TransientError
from billing.models import LaneState


def close_lane(lane_id: int, ctx: Context) -> None:
    """Bring the lane to `closed`. Raises the gateway's errors, and TransientError while workers keep changing it."""
    with ctx.locks.hold(lock_name(lane_id)):  # a hint: the rows stop a worker that holds it, too
        for _ in range(MOST_ROUNDS):
            with ctx.database.read() as connection:
                snapshot = lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())
            assert snapshot is not None, "a lane is never deleted"
            match snapshot.lane.state:
                case LaneState.CLOSED:
                    return
                case LaneState.CREATING:  # finish it first: its request on the way could open a session later
                    create(snapshot, ctx)
                case LaneState.OPEN:
                    with ctx.database.write() as connection:
                        lane_store.move(connection, snapshot.lane, LaneState.CLOSING)
                case LaneState.CLOSING:
                    close_session(snapshot, ctx)
    raise TransientError("A worker keeps changing this user's lane. Try again in a minute.")


def verify_closed(lane_id: int, customer_id: str, ctx: Context) -> Verdict:
    """Expire orphaned sessions of a closed lane, and find what could still bill its customer. Raises as `verify`."""
    with ctx.database.read() as connection:
        snapshot = lane_store.read_snapshot(connection, lane_id, now=ctx.clock.now())
    recorded = snapshot.recorded if snapshot else ()
    return verify(customer_id, recorded=recorded, owned=lambda: (None, None), stripe=ctx.stripe, catalog=ctx.catalog)
