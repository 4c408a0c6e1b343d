"""Scenes: what happens in a run of the explorer, while the schedule decides in which order."""

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scene:
    """What happens; in which order is the schedule's."""

    plans: tuple[str, ...] = ("standard", "commit")
    pays: bool = True
    asked: bool = False  # by their bank: whoever pays has to authenticate first (3-D Secure)
    opened: bool = False  # a buyer was given a session before, and may pay it at any moment
    legacy: bool = False  # an earlier system left an open session, which its buyer may pay
    dashboard: bool = False  # somebody expires what is open by hand
    person: bool = False  # an operator ends the page that is open
    crashes: int = 0
    lossy: float = 0.0  # how often a write's answer is lost, executed or still on its way
    lost_expires: int = 0  # requests that never arrive
    saved_500: int = 0
    busy: int = 0  # a 409 or 429 instead of a creation
    lag_seconds: int = 0  # lists do not show what was made that recently
    minutes: int = 0  # that pass meanwhile, five at a time
    day: bool = False  # 25 hours pass at one step
    restored: bool = False  # a backup of the ledger is taken, and put back later
    webhooks: bool = False  # Stripe's events arrive, the newest first, and are worked meanwhile
    sweeps: bool = False  # the maintenance run looks for orphaned sessions meanwhile
    lacks: str | None = None  # a plan whose price Stripe does not have
    subscribed: bool = False  # the buyer has paid for the standard plan before
    wishes: tuple[str, ...] = ()  # what buyers want to be changed, each by a buyer of its own
    month: bool = False  # 32 days pass at one step
    duplicate: bool = False  # there is a second live subscription, and the policy is to cancel the newest
    second: bool = False  # there is a second live subscription, and nothing but the buyer ends it
    credit: int = 0  # of the customer's, in cents, that paid for a part of the second one
    refund_fails: bool = False  # the bank returns a refund
    taken_over: str = ""  # "new" or "known": they subscribed with an earlier system, and are named to us
    lapses: float = 0.0  # how often a lease turns out to be lost, or the lock to be taken
    flushed: bool = False  # Redis is emptied
    ports: bool = False  # clock and queue are points, too

    @property
    def outsiders(self) -> bool:
        """Whether somebody else changes the subscription meanwhile."""
        return self.month or self.duplicate

    @classmethod
    def of(cls, seed: int) -> "Scene":
        """The scene of a seed: every ingredient comes and goes."""
        chance = random.Random(f"scene {seed}")
        plans = tuple(chance.choice(("standard", "commit")) for _ in range(chance.randint(1, 3)))
        made = cls(
            plans=plans,
            pays=chance.random() < 0.7,
            opened=chance.random() < 0.5,
            legacy=chance.random() < 0.3,
            crashes=chance.choice((0, 0, 1, 2)),
            lossy=chance.choice((0.0, 0.0, 0.25)),
            saved_500=chance.choice((0, 0, 0, 1)),
            lag_seconds=chance.choice((0, 0, 0, 30)),
            minutes=chance.choice((0, 0, 20)),
            dashboard=chance.random() < 0.15,
            person=random.Random(f"person {seed}").random() < 0.2,  # the other seeds stay as they are
            lost_expires=chance.choice((0, 0, 0, 2)),
            busy=chance.choice((0, 0, 0, 1)),
            day=chance.random() < 0.1,
            restored=chance.random() < 0.1,
            webhooks=chance.random() < 0.3,
            sweeps=chance.random() < 0.2,
            lapses=chance.choice((0.0, 0.0, 0.0, 0.05)),
            flushed=chance.random() < 0.1,
            ports=chance.random() < 0.1,
            asked=chance.random() < 0.2,
        )
        if made.lossy:  # nobody sends again what was just lost before some time has passed
            made = replace(made, minutes=20)
        return made.changing(chance).paying(random.Random(f"money {seed}"))

    def changing(self, chance: random.Random) -> "Scene":
        """Half of the scenes have operations in them; half of those a subscription, and fewer checkouts."""
        if chance.random() < 0.5:
            return self
        wishes = tuple(chance.choice(("cancel", "reactivate", "switch", "undo", "portal")) for _ in range(3))
        if chance.random() < 0.3:
            return replace(self, wishes=wishes, opened=True, webhooks=True)
        return replace(
            self,
            plans=self.plans[: chance.choice((0, 0, 1))],
            wishes=(*wishes, chance.choice(("cancel", "switch"))),
            subscribed=True,
            opened=False,
            legacy=False,
            dashboard=False,
            month=chance.random() < 0.15,
            duplicate=chance.random() < 0.15,
            lacks=chance.choice((None, None, None, "commit")),
        )

    def paying(self, chance: random.Random) -> "Scene":
        """Credit and a bank where something is paid twice; a few scenes have somebody who is taken over instead."""
        if self.duplicate:
            return replace(self, credit=chance.choice((0, 400, 900)), refund_fails=chance.random() < 0.3)
        if chance.random() < 0.9 or self.restored or self.day or self.legacy:
            return self
        known = chance.choice(("new", "known"))
        none = replace(self, subscribed=False, opened=False, wishes=(), month=False, second=False, asked=False)
        return replace(none, taken_over=known, lacks=None)


class Broken(AssertionError):
    """An invariant does not hold; the text is the story, with what replays it. `steps` is its length."""

    def __init__(self, sentence: str, steps: list[str], replay: str) -> None:
        story = "\n".join(f"{number:4} {step}" for number, step in enumerate(steps))
        super().__init__(f"{sentence}\n{story}\nto see it again: {replay}")
        self.sentence = sentence
        self.steps = len(steps)
