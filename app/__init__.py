"""app hears the web: it checks who calls and what they sent, hands it to `billing`, and says what came of it.

No SQL, no Stripe, no rules. `create_app` is the whole wiring; everything a route needs is handed to it.
"""

from flask import Flask

from app.addresses import limit_addresses
from app.auth import Identity
from app.checkouts import checkout_routes
from app.crowds import turn_crowds_away
from app.customers import customer_routes
from app.dev.shop import shop_routes
from app.errors import register
from app.health import health_routes
from app.limits import RateLimit, Seats, Share, Turns
from app.openapi.page import docs_routes
from app.operations import change_routes
from app.request_hooks import guard
from app.subscription import subscription_routes
from app.webhooks import webhook_routes
from billing.services import Services
from billing.settings import Settings

# Of the 160 threads of a process, so many may wait for a checkout and so many may read a delivery's body,
# which a hostile client sends as slowly as it likes: the rest stays for everybody else.
MOST_WAITERS = 110
MOST_READERS = 24
# One buyer's share of a process (API-38): of its threads, of the seats for waiting, and of its work at the same moment.
# A hundred windows of one buyer are served; what comes beyond is no person, and gets 429. Measured beside a storm of a
# thousand: with one at work from its first step on, the others' p99 is 1.1 of what it is without; with its records and
# looks alone in line, 1.2 to 2.9.
MOST_OF_ONE, WAITERS_OF_ONE, AT_WORK_OF_ONE = 100, 80, 1


def create_app(
    settings: Settings,
    services: Services,
    *,
    shop: bool = False,
    limits_storage: str | None = None,
    most_waiters: int = MOST_WAITERS,
    most_readers: int = MOST_READERS,
) -> Flask:
    """Build the web application. `limits_storage` counts the rates elsewhere than in REDIS_URL."""
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    app.url_map.merge_slashes = False  # a user's id may have two in a row
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    identity = Identity(settings)
    storage = limits_storage or settings.redis_url
    asks = RateLimit("checkouts", settings.rate_limit_checkouts, storage_uri=storage)
    reads = RateLimit("reads", settings.rate_limit_reads, storage_uri=storage)
    addresses = RateLimit("addresses", settings.rate_limit_addresses, storage_uri=storage)
    waiters = Seats(most_waiters, of_one=min(most_waiters, WAITERS_OF_ONE))
    turns = Turns(AT_WORK_OF_ONE)

    register(app)
    guard(app, origins=settings.redirect_origins, trusted_proxies=settings.trusted_proxies)
    limit_addresses(app, identity=identity, rate=addresses)
    turn_crowds_away(
        app,
        identity=identity,
        shares=Share(MOST_OF_ONE),
        turns=Turns(AT_WORK_OF_ONE),
        origins=settings.redirect_origins,
    )
    webhook_routes(app, services, readers=Seats(most_readers))
    app.register_blueprint(
        checkout_routes(services, identity=identity, asks=asks, reads=reads, waiters=waiters, turns=turns)
    )
    changes = RateLimit("operations", settings.rate_limit_checkouts, storage_uri=storage)
    app.register_blueprint(
        change_routes(services, identity=identity, asks=changes, reads=reads, waiters=waiters, turns=turns)
    )
    app.register_blueprint(subscription_routes(services, identity=identity, reads=reads))
    app.register_blueprint(customer_routes(services, identity=identity))
    app.register_blueprint(health_routes(services))
    app.register_blueprint(docs_routes(shop=shop))
    if shop:
        app.register_blueprint(shop_routes(settings, services))
    return app
