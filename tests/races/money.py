"""Money in a scene: a second subscription that credit and a card paid for, what goes back of it, and a bank that
returns a refund (SUB-19, SUB-110 to SUB-114); a subscriber of an earlier system who is taken over (SUB-70, SUB-71)."""

import json
from itertools import pairwise
from typing import Any

from billing.coordination.jobs import SyncCustomers
from billing.customers.customers import claim_customer
from billing.duplicates.bills import MARK
from billing.models import RemedyState
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.projection import is_live
from billing.subscriptions.sync import sync_customer
from tests.races.schedule import AGAIN
from tests.races.surroundings import Surroundings

_REMEDIES = "SELECT subscription_id, state FROM remedies WHERE state NOT IN ('planned', 'dropped')"
_OPEN = "SELECT count(*) FROM incidents WHERE kind = 'duplicate_subscription' AND resolved_at IS NULL"
_SHAPE = """
    SELECT remedies.id, state, notices, noticed, spent, status, incidents.resolved_at, incidents.failures
    FROM incidents LEFT JOIN remedies ON incident_id = incidents.id LEFT JOIN repayments ON remedy_id = remedies.id
"""
_DUE = "SELECT count(*) FROM customers WHERE sync_due_at IS NOT NULL"


class Money(Surroundings):
    """What was taken twice, and what was given back."""

    def __init__(self, *places: Any) -> None:
        super().__init__(*places)
        self._seen: list[Any] = []  # what the remedies were, round by round

    # --- a second subscription

    def buy_again(self, customer: str) -> None:
        """The same once more, made elsewhere; credit pays for a part of it."""
        self.clock.advance(minutes=1)
        if self.scene.credit:
            given = {"amount": -self.scene.credit, "currency": "usd"}
            assert self.sandbox.request("POST", f"/v1/customers/{customer}/balance_transactions", given).status == 200
        items = [{"price": self.catalog.plans["standard"].price}]
        made = {"customer": customer, "items": items, "metadata": {"type": self.catalog.product}}
        self.sandbox.give_card(customer)
        assert self.sandbox.request("POST", "/v1/subscriptions", made).status == 200

    def bank(self) -> None:
        """A bank returns the first refund that it is sent."""
        for _ in range(8):
            self.schedule.point(f"{AGAIN} (bank)")
            if refunds := self.objects("refund"):
                self.sandbox.refund_becomes(refunds[-1]["id"], "failed")
                self.schedule.met["a bank returns a refund"] += 1
                return

    def nothing_moves(self) -> bool:
        """Whether the remedies have been as they are for three looks, each a minute after the other."""
        self._seen.append(self.raw.execute(_SHAPE).fetchall())
        return len(self._seen) > 3 and all(one == self._seen[-1] for one in self._seen[-4:])

    def taken(self, subscription_id: str) -> tuple[int, int]:
        """What a subscription took by card, and of the customer's credit."""
        bills = {one["id"] for one in self.objects("invoice") if subscription_id in str(one["parent"])}
        by_card = sum(one["amount_paid"] for one in self.objects("invoice") if one["id"] in bills)
        moves = [one for one in self.objects("customer_balance_transaction") if one["invoice"] in bills]
        return by_card, sum(one["amount"] for one in moves)

    def given_back(self) -> tuple[int, int]:
        """What went back to cards and has not failed, and to the balance."""
        refunds = [one for one in self.objects("refund") if one["status"] not in ("failed", "canceled")]
        credits = [one for one in self.objects("customer_balance_transaction") if one["metadata"].get(MARK)]
        return sum(one["amount"] for one in refunds), -sum(one["amount"] for one in credits)

    def check_money(self) -> None:
        """After every step: nobody is given more than was taken, and only what was canceled by us is given back."""
        if not self.scene.duplicate or self.went_back:
            return
        ended = [id_ for id_, _ in self.raw.execute(_REMEDIES).fetchall()]
        planned = [id_ for (id_,) in self.raw.execute("SELECT subscription_id FROM remedies").fetchall()]
        owed = [self.taken(id_) for id_ in planned]
        for back, took, what in zip(
            self.given_back(), (sum(of) for of in zip(*owed, strict=True)), ("by card", "of credit"), strict=False
        ):
            self.must(back <= took, f"{back} was given back {what}, and {took} was taken")
        self.must(bool(ended) or self.given_back() == (0, 0), "money was given back for what nobody had canceled")

    def check_money_at_rest(self) -> None:
        """All is back, or an incident says what is not."""
        if not self.scene.duplicate or self.went_back or self.scene.month:
            return
        rows = self.raw.execute(_REMEDIES).fetchall()
        [(still_open,)] = self.raw.execute(_OPEN).fetchall()
        if not rows:
            return
        took = tuple(sum(of) for of in zip(*(self.taken(id_) for id_, _ in rows), strict=True))
        by_card, credit = self.given_back()
        self.must(credit == took[1], f"{credit} of {took[1]} credit is back")
        if any(one["status"] == "failed" for one in self.objects("refund")):
            self.must(len(self.objects("refund")) == 1, "a refund that failed was tried again")
            self.must([state for _, state in rows] == [RemedyState.CANCELED], "a refund failed, and its remedy is over")
            self.must(still_open == 1, "a refund failed, and nobody is told")
            return
        self.must(by_card == took[0], f"{by_card} of {took[0]} is back")
        self.must({state for _, state in rows} == {RemedyState.REFUNDED}, f"the remedies are {rows}")
        live = [one for one in self.objects("subscription") if is_live(one["status"])]
        self.must(still_open == (len(live) > 1), "the incident is not as the subscriptions are")
        self.schedule.met["credit is given back"] += bool(credit)

    # --- a subscriber of an earlier system

    def take_over(self) -> None:
        """Somebody who has paid an earlier system, with our tag, and the commit that names them."""
        customer = str(self.sandbox.request("POST", "/v1/customers", {}).body["id"])
        self.buy_again(customer)
        if self.scene.taken_over == "known":  # an event came before anybody knew whose it is
            self._sync(customer)
        claim_customer("user_1", customer, database=self.database, clock=self.clock)
        self.queue.send(SyncCustomers())
        self.clock.advance(minutes=1)

    def _sync(self, customer: str) -> None:
        places: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "clock": self.clock}
        sync_customer(customer, SyncContext(catalog=self.catalog, queue=self.queue, **places))

    def all_fetched(self) -> bool:
        """Whether nobody who was taken over waits."""
        return self.raw.execute(_DUE).fetchone() == (0,)

    def check_taken_over(self) -> None:
        """At rest: fetched, and the application was told once whose it is, whatever it had been told before."""
        if not self.scene.taken_over:
            return
        self.must(self.all_fetched(), "who was taken over was not fetched")
        told = [json.loads(payload) for (payload,) in self.raw.execute("SELECT payload FROM outbox ORDER BY id")]
        named = [one["subscription"] for one in told if one["user_id"] == "user_1"]
        self.must(bool(named), "the application was not told whose subscription it is")
        twice = any(one == other for one, other in pairwise(named))
        self.must(not twice, "the application was told the same twice")
        [(product,)] = self.raw.execute("SELECT count(*) FROM incidents WHERE resolved_at IS NULL").fetchall()
        self.must(product == 0, "an incident about somebody who was taken over is open")
        self.schedule.met["a customer is taken over"] += 1
