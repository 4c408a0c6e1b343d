"""Keys and secrets by their shape: what was cut off while copying, or taken from the wrong line of the Dashboard."""

from collections.abc import Iterator

from billing.doctor.finding import Finding, wrong
from billing.process.settings import Settings

PREFIX = "whsec_"
SHORTEST_SIGNING = 32  # characters after whsec_: an endpoint's has 32, that of `stripe listen` 64
SHORTEST_KEY = 24  # characters after sk_test_: the oldest have 24, today's 99


def examine_secrets(settings: Settings) -> Iterator[Finding]:
    """What cannot be a key or secret of Stripe's. A server in Stripe's place (STRIPE_API_BASE) may have others."""
    if settings.stripe_api_base is None:
        yield from _stripe_key(settings)
        yield from _signing(settings)


def _stripe_key(settings: Settings) -> Iterator[Finding]:
    if settings.stripe_api_key is None:
        return
    key = settings.stripe_api_key.get_secret_value()
    kind, _, rest = key.partition("_")
    mode, _, body = rest.partition("_")
    if kind not in ("sk", "rk") or mode not in ("test", "live"):
        yield wrong("settings", "STRIPE_API_KEY is no key of Stripe's. Set it to one that begins with rk_ or sk_.")
    elif len(body) < SHORTEST_KEY:
        yield wrong(
            "settings", f"STRIPE_API_KEY has only {len(key)} characters: a part is missing. Copy it again, whole."
        )


def _signing(settings: Settings) -> Iterator[Finding]:
    for number, secret in enumerate(settings.stripe_webhook_secrets, 1):
        text = secret.get_secret_value()
        which = f"STRIPE_WEBHOOK_SECRETS: secret {number}"
        if not text.startswith(PREFIX):
            yield wrong(
                "settings",
                f"{which} does not begin with {PREFIX}. Set the endpoint's signing secret, no id and no key.",
            )
        elif len(text) < len(PREFIX) + SHORTEST_SIGNING:
            yield wrong(
                "settings",
                f"{which} has {len(text)} characters, and Stripe's have {len(PREFIX) + SHORTEST_SIGNING} or more: every"
                " delivery would be refused. Copy it again, whole.",
            )
