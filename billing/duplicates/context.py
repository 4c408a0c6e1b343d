"""What every step of a remedy needs, and how a refusal of Stripe's is noted."""

from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from billing.coordination.locks import Locks
from billing.duplicates.policy import Wish
from billing.errors import PermanentError
from billing.subscriptions import context

log = structlog.get_logger(__name__)
REMEDIES = Counter("onelane_remedies_total", "What was done about duplicate subscriptions.", ["outcome"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(context.Context):
    """`cancels`: whether DUPLICATE_POLICY lets it begin a cancellation; a person's `wish` does, too (SUB-130).

    What Stripe refuses for good is added to `refused`: each is looked at again within the hour.
    """

    locks: Locks
    cancels: bool
    wish: Wish | None = None
    refused: list[str] = field(default_factory=list)

    @property
    def may_cancel(self) -> bool:
        """Whether anything is canceled that was not begun."""
        return self.cancels or self.wish is not None

    def note_refusal(self, event: str, error: PermanentError, **about: object) -> None:
        """Log it and count it; the others go on."""
        self.refused.append(error.sentence)
        REMEDIES.labels("refused").inc()
        log.error(event, reason=error.sentence, **about)
