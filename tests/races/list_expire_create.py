"""The usual way to make a payment page, as a substitute for a pass over a lane: what the whole protocol is against."""

import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from billing.checkout import checkout_store, lane_store, work
from billing.checkout.context import Context
from billing.checkout.rules import LOOK_BACK, Attempt
from billing.checkout.session_parameters import session_parameters
from billing.customers.customers import ensure_customer
from billing.errors import OnelaneError
from billing.models import LaneState, lanes
from billing.rules.product_tag import is_tagged


def list_expire_create(_: Any, lane_id: int, ctx: Context) -> None:
    """The usual way, in a ledger like ours: no lock, no compare-and-set, no second look."""
    database, stripe, clock, catalog = ctx.database, ctx.stripe, ctx.clock, ctx.catalog
    snapshot = work._read(lane_id, ctx)
    newest = snapshot.newest if snapshot else None
    if snapshot is None or newest is None:
        return
    customer_id = snapshot.customer_id or ensure_customer(
        snapshot.lane.user_id, database=database, stripe=stripe, clock=clock
    )
    for session in stripe.list_sessions(customer_id, created_since=stripe.now() - LOOK_BACK):
        if session["status"] == "open" and is_tagged(session, catalog.product):
            with suppress(OnelaneError):
                stripe.expire_session(session["id"])
    nonce, expires_at = str(uuid.uuid4()), stripe.now() + timedelta(hours=23)
    whose: Any = {"user_id": snapshot.lane.user_id, "customer_id": customer_id, "nonce": nonce, "first_time": True}
    sent = session_parameters(newest, catalog=catalog, expires_at=expires_at, now=clock.now(), **whose)
    with suppress(OnelaneError):
        session_id = stripe.create_session(sent, idempotency_key=nonce)
        made = Attempt(nonce, lane_id, newest.id, nonce, sent, newest.fingerprint, clock.now(), expires_at, session_id)
        with database.write() as connection:
            lane_store.insert_attempt(connection, made)
            opened = {"state": LaneState.OPEN, "nonce": nonce, "session_id": session_id}
            connection.execute(lanes.update().where(lanes.c.id == lane_id).values(**opened))
            lane = replace(snapshot.lane, nonce=nonce)
            checkout_store.answer(connection, lane, newest, url="https://pay.example", now=clock.now())
