"""What an account's Dashboard settings decide, set by the control plane: `POST /_sandbox/settings`."""

from .errors import ApiError, Json
from .store import Store

_ID = "account"
# What happens to a subscription after its last failed attempt, whether the portal was ever saved,
# and whether Stripe Tax knows where the account sells from.
CHOICES: dict[str, tuple[str, ...]] = {
    "after_retries": ("past_due", "unpaid", "cancel"),
    "portal": ("saved", "never_saved"),
    "tax": ("ready", "no_origin"),
}


def shown(store: Store) -> Json:
    kept = store.get("setting", _ID) or {}
    return {name: kept.get(name, choices[0]) for name, choices in CHOICES.items()}


def change(store: Store, values: Json) -> Json:
    for name, value in values.items():
        if value not in CHOICES.get(name, ()):
            known = "; ".join(f"{name}: {', '.join(choices)}" for name, choices in CHOICES.items())
            raise ApiError(400, f"Unknown setting or value: {name}. Known are {known}.")
    store.put("setting", {"id": _ID, **shown(store), **values})
    return shown(store)


def after_retries(store: Store) -> str:
    return str(shown(store)["after_retries"])
