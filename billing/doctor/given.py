"""The settings, before anything is asked of a server: missing and misspelt ones, and what kind of key there is.

A misspelt name in the environment or in `.env` is read by nobody, and nobody says so.
"""

import difflib
from collections.abc import Iterable, Iterator

from billing.doctor.finding import Finding, fine, warning, wrong
from billing.doctor.secrets import examine_secrets
from billing.errors import ConfigurationError
from billing.operators.installation import mode_of_key
from billing.process.settings import Settings
from billing.process.unsafe_settings import is_live, unsafe_settings

LIKE_ENOUGH = 0.85  # STRIPE_WEBHOOK_SECRET beside STRIPE_WEBHOOK_SECRETS has 0.98, REDIS_HOST beside REDIS_URL 0.74
# Names that other programs and frameworks give to the same thing.
OTHER_NAMES = {
    "STRIPE_SECRET_KEY": "STRIPE_API_KEY",
    "STRIPE_KEY": "STRIPE_API_KEY",
    "STRIPE_SIGNING_SECRET": "STRIPE_WEBHOOK_SECRETS",
    "BROKER_URL": "CELERY_BROKER_URL",
    "JWT_SECRET": "AUTH_JWT_SECRET",
    "JWKS_URL": "AUTH_JWKS_URL",
    "CORS_ORIGINS": "REDIRECT_ORIGINS",
}


def examine_settings(settings: Settings, names: Iterable[str] = ()) -> Iterator[Finding]:
    """What is missing or misspelt among the settings, and what kind of key it is. `names`: all that were given."""
    found = [*_lacking(settings), *examine_names(names), *(wrong("settings", one) for one in unsafe_settings(settings))]
    found += [*examine_key(settings), *examine_secrets(settings)]
    if settings.auth_jwks_url and settings.auth_issuer and not settings.auth_audience:
        sentence = "AUTH_AUDIENCE is not set: what AUTH_ISSUER signs for other applications passes here, too. Set it."
        found.append(warning("settings", sentence))
    if is_live(settings) and settings.metrics_token is None:
        sentence = "METRICS_TOKEN is not set: whoever reaches the web reads /metrics. Set METRICS_TOKEN."
        found.append(warning("settings", sentence))
    yield from found
    if not found:
        yield fine("settings", "Every setting makes sense.")


def _lacking(settings: Settings) -> Iterator[Finding]:
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
            yield wrong("settings", f"{name} is not set. Set it as `onelane settings` says.")


def examine_names(given: Iterable[str]) -> Iterator[Finding]:
    """A finding for each name among those given that was probably meant for one of ours."""
    names = set(given)
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(names - known - {f"{one}_FILE" for one in known}):
        bare = name.removesuffix("_FILE")
        close = difflib.get_close_matches(bare.upper(), known - names, n=1, cutoff=LIKE_ENOUGH)
        meant = OTHER_NAMES.get(bare) if OTHER_NAMES.get(bare) not in names else None
        for setting in [meant] if meant else close:
            yield warning("settings", f"{name} is read by nobody. Did you mean {setting}? Rename it.")


def examine_key(settings: Settings) -> Iterator[Finding]:
    """Of which mode the key is, and whether it may do more than it needs to."""
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    try:
        mode_of_key(settings)
    except ConfigurationError as error:
        yield wrong("settings", error.sentence)
    if key.startswith("sk_live_"):
        sentence = "STRIPE_API_KEY may do everything. Use a restricted key (rk_live_…) with what SECURITY.md lists."
        yield warning("settings", sentence)
