"""The policy: of several live subscriptions of our product, which one stays and which may be canceled. Pure.

The one that pays stays. What each of them does about money is its `Standing`; the table in specs/subscriptions.md has
every pair. Of two that pay, the older by (created, id) stays, so every worker that reads the same decides the same.
Where it is not clear, nothing is canceled and a person decides.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from billing.catalog import Catalog
from billing.rules.money import in_words
from billing.rules.product_tag import is_tagged
from billing.subscriptions.invoices import is_owed
from billing.subscriptions.projection import belongs, is_live

Json = Mapping[str, Any]


class Standing(StrEnum):
    """What a live subscription does about money. The text is what an operator reads."""

    PAYS = "pays"
    PROMISES = "has paid nothing yet and can"  # a trial with a card, or every invoice was over nothing
    NEVER = "has paid nothing and cannot"  # incomplete, or a trial that has no card, or ended without one
    STOPPED = "has paid and does not any more"  # past due or unpaid
    FREE = "has paid before, and this period costs nothing"  # a gift, a trial that was given later
    OPEN = "has an open invoice"  # sent by mail, or a debit on its way; the period may be paid, and something else not
    ENDS = "is about to end"
    NOT_SOLD = "is for something that the catalog does not sell"  # our tag alone: it gives no access
    PAUSED = "was paused by a person"  # all of it, or its collection
    DOUBTED = "was paid back or is disputed"
    UNKNOWN = "is in a status that is not known"


# Older than the one that pays, these might have been meant to stay.
_CONTENDERS = frozenset(Standing) - {Standing.PAYS, Standing.NEVER, Standing.STOPPED}
# What a person or a bank has decided something about is not canceled by us.
_UNTOUCHED = frozenset({Standing.NOT_SOLD, Standing.PAUSED, Standing.DOUBTED, Standing.UNKNOWN})
_UNPAID_INVOICES = frozenset({"open", "uncollectible"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live subscription of ours as Stripe has it now.

    `invoices` are all of its invoices, `period` those that decide about the plan's running period, newest first.
    `has_card` says whether Stripe can charge it by itself, `is_sold` whether the catalog sells it. `doubted` says that
    the payment for this period was disputed or paid back.
    """

    subscription: Json
    invoices: Sequence[Json] = ()
    period: Sequence[Json] = ()
    has_card: bool = True
    is_sold: bool = True
    doubted: bool = False

    @property
    def id(self) -> str:
        return str(self.subscription["id"])

    @property
    def paid(self) -> int:
        """What was paid for it so far, credit included; in the smallest unit."""
        return sum(paid_for(invoice) for invoice in self.invoices)

    @property
    def is_scheduled(self) -> bool:
        """Whether something is planned for it, by the buyer or by a person."""
        return bool(self.subscription.get("schedule"))

    def standing(self) -> Standing:
        """What it does about money."""
        subscription, status = self.subscription, self.subscription.get("status")
        decides = next(iter(self.period), None)
        paid_now = decides is not None and paid_for(decides) > 0
        is_given = decides is not None and decides.get("status") not in ("paid", "draft") and not is_owed(decides)
        if subscription.get("pause_collection"):
            return Standing.PAUSED
        if self.doubted:
            return Standing.DOUBTED
        if status == "incomplete":
            return Standing.NEVER
        if status in ("past_due", "unpaid"):  # the status is the latest invoice's, whatever that is for
            return Standing.OPEN if paid_now or is_given else Standing.STOPPED
        if status == "paused":  # a trial ended without a card; one that was paid for was paused by a person
            return Standing.PAUSED if self.paid else Standing.NEVER
        if status not in ("active", "trialing"):
            return Standing.UNKNOWN
        if not self.is_sold:
            return Standing.NOT_SOLD
        if subscription.get("cancel_at") or subscription.get("cancel_at_period_end"):
            return Standing.ENDS
        if any(invoice.get("status") in _UNPAID_INVOICES for invoice in self.invoices):
            return Standing.OPEN
        if status == "trialing" and not self.has_card:
            return Standing.STOPPED if self.paid else Standing.NEVER
        if not self.paid:
            return Standing.PROMISES
        return Standing.PAYS if status == "active" and (paid_now or not self.period) else Standing.FREE

    def words(self) -> str:
        """For an operator: id, status, and what was paid."""
        currency = self.subscription.get("currency")
        return f"{self.id} {self.standing()} ({self.subscription.get('status')}; paid {in_words(self.paid, currency)})"


@dataclass(frozen=True, slots=True)
class Decision:
    """`keep` stays when something is in `cancel`. `reason` says why a person has to decide about the rest."""

    live: tuple[str, ...] = ()  # oldest first
    keep: str | None = None
    cancel: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person decided: `keep` stays, and of the others exactly those that they saw go."""

    keep: str
    cancel: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    keep: Candidate | None
    cancel: list[Candidate] = field(default_factory=list)


def paid_for(invoice: Json) -> int:
    """What was paid for an invoice, by any means; credit of the customer included."""
    return received(invoice) + credit_in(invoice)


def received(invoice: Json) -> int:
    """What came for an invoice beside credit. Stripe does not document `amount_paid` of one paid outside of it."""
    due = int(invoice.get("amount_due") or 0) if invoice.get("status") == "paid" else 0
    return max(int(invoice.get("amount_paid") or 0), due)


def credit_in(invoice: Json) -> int:
    """How much of the customer's credit a finalized invoice took: Stripe writes credit as a negative balance."""
    starting, ending = invoice.get("starting_balance") or 0, invoice.get("ending_balance")
    if ending is None or invoice.get("status") == "void" or starting >= 0:
        return 0  # a draft has taken nothing yet, and what a void one took has come back
    return int(min(ending, 0) - starting)


def only_ours(subscriptions: Iterable[Json], catalog: Catalog) -> list[Json]:
    """The live subscriptions of our product, oldest first."""
    ours = [subscription for subscription in subscriptions if belongs(subscription, catalog)]
    live = [subscription for subscription in ours if is_live(str(subscription.get("status")))]
    return sorted(live, key=lambda subscription: (subscription.get("created") or 0, str(subscription["id"])))


def decide(
    candidates: Sequence[Candidate],
    catalog: Catalog,
    *,
    kept: Collection[str] = (),
    wish: Wish | None = None,
    by_policy: bool = True,
) -> Decision:
    """Which of a customer's live subscriptions to cancel (SUB-16 to SUB-18), from all of them, oldest first.

    A person's `wish` comes before the policy, also about what was made elsewhere or is held (SUB-130). Once it can be
    fulfilled no more, the policy decides, or without `by_policy` a person again. `kept` are those in whose favor
    another one was planned to be canceled before. Such a one is never canceled: a cancellation that is still on its way
    could then end both.
    """
    ids = tuple(candidate.id for candidate in candidates)
    if len(candidates) < 2:
        return Decision(ids)
    wished = _wished(candidates, wish)
    choice = wished or (_choose(candidates) if by_policy else _Choice(None))
    before = [id_ for id_ in ids if id_ in kept]
    if choice.keep is None or (before and before != [choice.keep.id]):
        return Decision(ids, reason=_ask(candidates, "Which one stays is not clear"))
    may = [one for one in choice.cancel if wished or is_tagged(one.subscription, catalog.product)]
    left = [candidate for candidate in candidates if candidate is not choice.keep and candidate not in may]
    reason = _ask([choice.keep, *left], "Not canceled by itself, made elsewhere or held by somebody") if left else None
    return Decision(ids, choice.keep.id, tuple(candidate.id for candidate in may), reason)


def _wished(candidates: Sequence[Candidate], wish: Wish | None) -> _Choice | None:
    """The wish, while the one to keep is live and one of the others is, too."""
    keep = next((one for one in candidates if wish and one.id == wish.keep), None)
    cancel = [one for one in candidates if wish and one.id in wish.cancel]
    return _Choice(keep, cancel) if keep and cancel else None


def _choose(candidates: Sequence[Candidate]) -> _Choice:
    """The one to keep, and those that may go in its favor; nothing where that is not clear."""
    standings = {candidate.id: candidate.standing() for candidate in candidates}
    paying = [candidate for candidate in candidates if standings[candidate.id] is Standing.PAYS]
    if paying:
        keep = paying[0]
        if any(standings[older.id] in _CONTENDERS for older in candidates[: candidates.index(keep)]):
            return _Choice(None)
    elif set(standings.values()) <= {Standing.PROMISES, Standing.NEVER} and Standing.PROMISES in standings.values():
        keep = next(each for each in candidates if standings[each.id] is Standing.PROMISES)
    else:
        return _Choice(None)
    others = [candidate for candidate in candidates if candidate is not keep and not candidate.is_scheduled]
    return _Choice(keep, [candidate for candidate in others if standings[candidate.id] not in _UNTOUCHED])


def _ask(candidates: Iterable[Candidate], why: str) -> str:
    """The sentence for the operator: what there is, and what to do."""
    each = "; ".join(candidate.words() for candidate in candidates)
    return f"{why}: {each}. A person has to cancel at Stripe what should not go on, and pay back what it took."
