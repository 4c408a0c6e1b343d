"""How an object at Stripe is known to be ours: the names in `metadata` that onelane writes and reads.

`type` names the product, `nonce` the row that asked for the object. What an object carries is believed for as much as
that: whose it is, only our own tables say.
"""

import re
from collections.abc import Mapping
from typing import Any

# A name that a buyer's own metadata must not have: ours, and those that later versions may need.
RESERVED_NAMES = r"(type|nonce)$|onelane_"
LONGEST_NAME = 40  # Stripe's limit
USER = "onelane_user"
_NONCE = re.compile(r"[0-9a-f-]{36}")


def is_free_name(name: str) -> bool:
    """Whether a client may set this name: none of ours, and one that Stripe takes."""
    return re.match(RESERVED_NAMES, name) is None and re.fullmatch(rf"[^\[\]\0]{{1,{LONGEST_NAME}}}", name) is not None


def tag(product: str, *, nonce: str | None = None, user_id: str | None = None) -> dict[str, str]:
    """The metadata of an object of this product, and the row that asked for it, and for whom (CHK-3)."""
    named = {"type": product, "nonce": nonce, USER: user_id}
    return {name: value for name, value in named.items() if value is not None}


def is_tagged(thing: Mapping[str, Any], product: str) -> bool:
    """Whether an object is this product's, whichever program made it (CHK-4)."""
    return bool(metadata_of(thing).get("type") == product)


def nonce_of(thing: Mapping[str, Any]) -> str | None:
    """The row of ours that asked for an object, if one did; other programs may write any text by that name."""
    nonce = metadata_of(thing).get("nonce")
    return nonce if isinstance(nonce, str) and _NONCE.fullmatch(nonce) else None


def metadata_of(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's metadata, of which Stripe says null where there is none."""
    return thing.get("metadata") or {}
