"""What each setting means, in the order in which people meet them: for `docs/settings.md` and `onelane init`.

A test holds the names against `Settings`. Defaults are read from there.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from billing.process.settings import Settings

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Stripe": {
        "STRIPE_API_KEY": "the key; workers only. `sk_test_…`, or a restricted `rk_live_…` with what SECURITY.md lists",
        "STRIPE_WEBHOOK_SECRETS": "comma-separated signing secrets (16 characters or more) of your endpoint,"
        " all accepted",
        "STRIPE_API_BASE": "another address of the API, such as the sandbox's",
        "STRIPE_ACCOUNT": "the account that events must name; taken from the key at the first start and kept"
        " in the ledger",
        "STRIPE_LIVEMODE": "the mode that events must name; taken from the key as well",
        "STRIPE_TIMEOUT_SECONDS": "of one call",
        "STRIPE_MAX_PER_SECOND": "calls of all processes together, in any second",
    },
    "Who calls": {
        "AUTH_JWT_SECRET": "how buyers' tokens are checked: HS256 with this secret (32 bytes or more); `sub`"
        " is the user",
        "AUTH_JWKS_URL": "in place of it: the key set (https) of your identity provider, for RS, ES and EdDSA",
        "AUTH_ISSUER": "what `iss` must be; with AUTH_JWKS_URL this or the audience is needed",
        "AUTH_AUDIENCE": "what `aud` must be",
        "AUTH_API_KEYS": "comma-separated keys (24 characters or more) of your own servers: bearer tokens, with the"
        " user in `user_id` of the body, or of a GET's query",
        "REDIRECT_ORIGINS": "comma-separated origins that `success_url`, `cancel_url` and `return_url` may"
        " have; also the"
        " CORS allow-list",
    },
    "What is sold": {
        "CATALOG": "the file with the product and its plans",
        "CHECKOUT_WAIT_SECONDS": "how long a POST waits before it answers 202 (0 to 20)",
        "CHECKOUT_REUSE_SECONDS": "how old a session may be to be given out again (0 to 86,400)",
        "CUSTOMER_LOCK_SECONDS": "lifetime of a customer's lock, renewed while it is needed (5 to 300)",
        "DUPLICATE_POLICY": "`alert`: a person decides about a second live subscription; `cancel_newest`: the"
        " one that pays"
        " stays, the others with our tag are canceled and refunded, and what is unclear waits for a person",
    },
    "Hearing of changes": {
        "APP_WEBHOOK_URL": "where changes are sent",
        "APP_WEBHOOK_SECRET": "signs them by Standard Webhooks: `whsec_` and 24 to 64 random bytes in base64",
        "APP_HANDLERS": "in place of both: a Python module (`shop.handlers`) or its file (`shop/handlers.py`),"
        " whose functions"
        " are called in the worker",
    },
    "Servers": {
        "PORT": "where the web listens",
        "BIND": "the address that it listens on",
        "KEEP_ALIVE_SECONDS": "when a connection that sends no request, or takes no answer, is closed; more than your"
        " proxy keeps an idle one",
        "DATABASE_URL": "PostgreSQL in production; SQLite is for one machine. docs/connections.md has what a"
        " connection starts with",
        "DATABASE_POOL_SIZE": "connections to PostgreSQL that one process has at the most; four processes have 40",
        "DATABASE_PREPARE": "`false`: no prepared statements, also where no pooler is recognised",
        "REDIS_URL": "Redis 6.2 or newer, or Valkey, with `noeviction`, no cluster; `rediss://` verifies;"
        " docs/redis.md has the parameters and Sentinel",
        "REDIS_KEY_PREFIX": "what every key begins with; one for each installation on a server",
        "CELERY_BROKER_URL": "another broker for the queue; without it REDIS_URL",
    },
    "Limits": {
        "RATE_LIMIT_CHECKOUTS": "of one user; in `onelane dev` 1000/minute",
        "RATE_LIMIT_DIFFERENT_CHECKOUTS": "of one user's checkouts, those that differ from the one before"
        " (plan, metadata, addresses); in `onelane dev` 1000/minute",
        "RATE_LIMIT_READS": "of one user",
        "RATE_LIMIT_ADDRESSES": "of one client address (IPv6: its /64), whichever tokens it shows; own servers"
        " are not counted",
        "TRUSTED_PROXIES": "how many proxies' `X-Forwarded-For`, `-Proto` and `-Prefix` to believe; behind a"
        " proxy set it, or all buyers share one address",
        "WEBHOOK_MAX_BYTES": "the longest delivery of Stripe's",
    },
    "Operating": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces are sent by OTLP over HTTP; needs the extra `onelane[otel]`",
        "SENTRY_DSN": "where errors are sent; needs the extra `onelane[sentry]`",
        "LOG_LEVEL": "`debug` has each event, request and call to Stripe; `info` at most four lines of a purchase;"
        " `warning`, `error`",
        "METRICS_TOKEN": "who reads `/metrics` sends it as a bearer token (24 characters or more); without it"
        " anybody may",
        "METRICS_DIR": "one folder in which all processes of a machine write what they count; its webs add it up",
        "RETENTION_DAYS": "how long what Stripe delivered is kept, and the bodies of checkouts that nobody paid",
        "RETENTION_ROWS_DAYS": "how long a delivery's row is kept (40 or more)",
        "CONSOLE_PASSWORD": "lets operators into `/console` (16 characters or more); without it `/console` is 404",
        "CONSOLE_VIEWER_PASSWORD": "lets in those who may only look",
        "CONSOLE_USER_HEADER": "the header in which your proxy names who it has logged in, such as `X-Forwarded-User`;"
        " only with TRUSTED_PROXIES. Your proxy must set or remove it in every request",
    },
}
MEANINGS: Mapping[str, str] = {name: text for section in SECTIONS.values() for name, text in section.items()}


def default_of(name: str) -> str:
    """The default as the environment would have it; empty where there is none."""
    value: Any = Settings.model_fields[name.lower()].get_default()
    if value is None or isinstance(value, SecretStr) or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
