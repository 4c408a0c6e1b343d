"""The settings, before anything is asked of a server."""

from collections.abc import Iterator

from billing.doctor.finding import Finding, fine, warning, wrong
from billing.process.settings import Settings
from billing.process.unsafe_settings import unsafe_settings


def examine_settings(settings: Settings) -> Iterator[Finding]:
    """What is missing among the settings, and what kind of key it is."""
    lacking = {
        "STRIPE_API_KEY": not settings.stripe_api_key,
        "STRIPE_WEBHOOK_SECRETS": not settings.stripe_webhook_secrets,
        "AUTH_JWT_SECRET or AUTH_JWKS_URL or AUTH_API_KEYS": not (
            settings.auth_jwt_secret or settings.auth_jwks_url or settings.auth_api_keys
        ),
        "REDIRECT_ORIGINS": not settings.redirect_origins,
    }
    for name, missing in lacking.items():
        if missing:
            yield wrong("settings", f"{name} is not set. Set it as README.md lists it.")
    unsafe = unsafe_settings(settings)
    yield from (wrong("settings", sentence) for sentence in unsafe)
    yield from examine_key(settings)
    if settings.auth_jwks_url and settings.auth_issuer and not settings.auth_audience:
        sentence = "AUTH_AUDIENCE is not set: what AUTH_ISSUER signs for other applications passes here, too."
        yield warning("settings", sentence)
    if not unsafe and not any(lacking.values()):
        yield fine("settings", "Every setting makes sense.")


def examine_key(settings: Settings) -> Iterator[Finding]:
    """Of which mode the key is, and whether it may do more than it needs to."""
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    mode = next((mode for mode in ("live", "test") if key.startswith((f"sk_{mode}_", f"rk_{mode}_"))), None)
    if mode and settings.stripe_livemode not in (None, mode == "live"):
        sentence = f"STRIPE_API_KEY is a {mode} key, STRIPE_LIVEMODE says otherwise. Set both to the same mode."
        yield wrong("settings", sentence)
    if key.startswith("sk_live_"):
        sentence = "STRIPE_API_KEY may do everything. Use a restricted key (rk_live_…) with what SECURITY.md lists."
        yield warning("settings", sentence)
