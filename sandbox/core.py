"""The sandbox itself, usable without HTTP: `Sandbox().request("POST", "/v1/customers", {...})`.

Beside the API: what buyers, banks and operators do, how time is moved, and how the whole is kept and emptied.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from . import (
    customers,
    disputes,
    lifecycle,
    paying,
    payment_links,
    payment_methods,
    permissions,
    refunds,
    seeds,
    settings,
    subscription_objects,
)
from .answers import checked_parameters
from .api import Api
from .errors import ApiError, Json
from .events import visible
from .routes import find


class Sandbox(Api):
    """The API, and everything that does not come through it."""

    # Buyers, and people at the Dashboard ----------------------------------------------------------------------------

    def session(self, id: str) -> Json | None:
        """A checkout session of either mode, with the time that has passed applied to it."""
        with self.calling():
            return self.store.get("checkout_session", id)

    def pay(self, session_id: str, *, delayed: bool = False, card: str = "pm_card_visa", wait: float = 0.0) -> Json:
        """The buyer pays with a test card of `cards`, which may be declined or ask for authentication.

        `wait`: so long for the first answer to checkout.session.completed, as Checkout does.
        """
        done = self._at(session_id, paying.pay, delayed=delayed, card=card)
        if wait and done["status"] == "complete":
            self._wait_for_completion(session_id, wait)
        return visible(done)

    def _at(self, session_id: str, act: Callable[..., Json], **how: Any) -> Json:
        session = self._session(session_id)
        with self.calling(livemode=session["livemode"]) as call:
            return act(call, self._session(session_id), **how)

    def _wait_for_completion(self, session_id: str, seconds: float) -> None:
        with self.lock:
            completed = next(
                one
                for one in self.store.newest_first("event")
                if one["type"] == "checkout.session.completed" and one["data"]["object"]["id"] == session_id
            )
        self.deliveries.wait_for_answer(completed["id"], seconds)

    def decline(self, session_id: str) -> Json:
        """The buyer's card is refused."""
        return visible(self._at(session_id, paying.decline))

    def challenge(self, session_id: str) -> Json:
        """The buyer pays with a card whose bank asks them to authenticate (3-D Secure)."""
        return visible(self._at(session_id, paying.challenge))

    def authenticate(self, session_id: str, *, succeeds: bool = True, wait: float = 0.0) -> Json:
        """What became of that: paid, or refused by the bank. ApiError when the session was expired meanwhile."""
        done = self._at(session_id, paying.authenticate, succeeds=succeeds)
        if done["status"] == "complete" and wait:
            self._wait_for_completion(session_id, wait)
        return visible(done)

    def settle(self, session_id: str, *, succeeds: bool = True) -> Json:
        """A delayed payment arrives, or fails."""
        return visible(self._at(session_id, paying.settle_late, succeeds=succeeds))

    def force_status(self, subscription_id: str, status: str) -> Json:
        """Puts a subscription into a status, with the events of it."""
        if status not in subscription_objects.STATUSES:
            raise ApiError(400, f"status must be one of {', '.join(subscription_objects.STATUSES)}", param="status")
        with self.calling() as call:
            call.livemode = bool((self.store.get("subscription", subscription_id) or {}).get("livemode"))
            return visible(lifecycle.force_status(call, call.named("subscription", subscription_id), status))

    def change_subscription(self, subscription_id: str, changes: Json) -> Json:
        """A person at the Dashboard or the buyer in the portal changes it, by what the API's POST takes."""
        found = find("POST", f"/v1/subscriptions/{subscription_id}")
        with self.calling() as call:
            call.livemode = bool((self.store.get("subscription", subscription_id) or {}).get("livemode"))
            checked, _ = checked_parameters(found, changes)
            with self.store.undone_by_refusal():
                return visible(found.handler(call, checked))

    def give_card(self, customer_id: str, card: str = "pm_card_visa") -> Json:
        """The customer's default card from now on: a test card of `cards`."""
        with self.calling() as call:
            call.livemode = bool((self.store.get("customer", customer_id) or {}).get("livemode"))
            return visible(customers.give_card(call, call.named("customer", customer_id), card))

    def card_answers(self, payment_method_id: str, code: str | None) -> Json:
        """What the bank says from now on: a decline code, or None for the card's own answer."""
        with self.calling() as call:
            call.livemode = bool((self.store.get("payment_method", payment_method_id) or {}).get("livemode"))
            return visible(payment_methods.answering(call, call.named("payment_method", payment_method_id), code))

    def refund_becomes(self, refund_id: str, status: str) -> Json:
        """A refund arrives, fails or is canceled, sooner than time would do it."""
        if status not in refunds.STATUSES:
            raise ApiError(400, f"status must be one of {', '.join(refunds.STATUSES)}", param="status")
        with self.calling() as call:
            return visible(refunds.became(call, call.named("refund", refund_id), status))

    def visit_link(self, link_id: str, *, base_url: str | None = None) -> Json:
        """Somebody opens a Payment Link: the checkout session that it makes."""
        with self.calling(base_url=base_url) as call:
            link = self.store.get("payment_link", link_id)
            call.livemode = bool((link or {}).get("livemode"))
            return visible(payment_links.visit(call, call.named("payment_link", link_id)))

    def settings(self, **values: str) -> Json:
        """The account's Dashboard settings (see `settings`), changed where named."""
        with self.calling():
            return settings.change(self.store, values)

    def dispute(self, charge_id: str, status: str = "needs_response") -> Json:
        """The buyer disputes a charge, or the dispute goes on."""
        with self.calling() as call:
            return visible(disputes.dispute(call, charge_id, status))

    def seed(self, objects: Iterable[Json]) -> int:
        """Objects with the ids that a catalog names. What exists is brought up to date; nothing is announced."""
        with self.calling() as call:
            return seeds.plant(call, objects)

    def restrict(self, api_key: str, names: Iterable[str]) -> None:
        """A restricted key: these permissions and no others."""
        with self.calling():
            permissions.restrict(self.store, api_key, names)

    # Time -----------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        self._move(lambda: self.clock.advance(seconds))

    def set_clock(self, now: float) -> None:
        self._move(lambda: self.clock.set(now))

    def _move(self, move: Callable[[], None]) -> None:
        with self.lock:
            move()
            self.store.put("setting", {"id": "clock", "offset": self.clock.offset})
        self.tick()
        self.deliveries.nudge()

    def tick(self) -> None:
        """Lets time do its work: nothing else does while no request comes."""
        with self.calling():
            pass

    # The whole ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """An empty sandbox with the same settings: the endpoints that it was started with come back."""
        with self.lock:
            self.store.clear()
            self.faults.clear()
            self.clock.offset = 0.0
            self.log.clear()
            self.deliveries.settings = type(self.deliveries.settings)()
            self.deliveries.reload()
            self._configure()

    def snapshot(self) -> tuple[Any, ...]:
        """The whole state, to `restore` later. Cheap: objects are shared, as they are never changed in place."""
        with self.lock:
            return self.store.snapshot(), self.clock.offset, copy.deepcopy(self.faults), list(self.log)

    def restore(self, moment: tuple[Any, ...]) -> None:
        with self.lock:
            state, self.clock.offset, faults, log = moment
            self.store.restore(state)
            self.faults = copy.deepcopy(faults)
            self.log = deque(log, maxlen=self.log.maxlen)
            self.deliveries.reload()

    def start(self) -> None:
        """Webhooks are delivered from here on."""
        self.deliveries.start()

    def stop(self) -> None:
        self.deliveries.stop()

    def close(self) -> None:
        self.stop()
        with self.lock:
            self.store.close()

    def _session(self, id: str) -> Json:
        found = self.session(id)
        if found is None:
            raise ApiError(404, f"No such checkout.session: '{id}'", code="resource_missing", param="id")
        return found
