"""What a client said at the checkout that made a subscription: its own reference and metadata (SUB-86).

It is read from our own tables, by the nonce of the attempt. Stripe's metadata also hold what support and other programs
note there, which is not the buyer's to read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from billing.models import attempts, checkouts


@dataclass(frozen=True, slots=True)
class ClientData:
    """Both as they were sent."""

    client_reference_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> "ClientData":
        """From the body of a checkout, which is empty once its user was erased."""
        return cls(request.get("client_reference_id"), request.get("metadata") or {})

    def as_json(self) -> dict[str, Any]:
        """The public shape, the same in a checkout, a subscription and a change."""
        return {"client_reference_id": self.client_reference_id, "metadata": dict(self.metadata)}


def read_client_data(
    connection: sa.Connection, user_id: str | None, nonces: Iterable[str | None]
) -> dict[str | None, ClientData]:
    """By nonce, as far as the attempt was this user's: a nonce that somebody copied shows nothing of another user."""
    known = [nonce for nonce in nonces if nonce is not None]
    if user_id is None or not known:
        return {}
    found = (
        sa.select(attempts.c.nonce, checkouts.c.request)
        .join(checkouts, checkouts.c.id == attempts.c.checkout_id)
        .where(attempts.c.nonce.in_(known), checkouts.c.user_id == user_id)
    )
    return {nonce: ClientData.of(request) for nonce, request in connection.execute(found)}
