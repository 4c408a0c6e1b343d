"""app hears the web: it checks who calls and what they sent, hands it to `billing`, and says what came of it.

No SQL, no Stripe, no rules. `create_app` is the whole wiring; everything a route needs is handed to it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.limits.waiters import Semaphore
    from billing.process.settings import Settings
    from billing.services import Services


def create_app(
    settings: "Settings",
    services: "Services",
    *,
    shop: bool = False,
    waiters: "Semaphore | None" = None,
) -> "Flask":
    """Build the web application."""
    # Here, since every command and the parent of the web's processes import this package. Without these imports it has
    # a third of the memory, and `onelane --version` takes a third of the time.
    from flask import Flask

    from app.checkouts import checkout_routes
    from app.customers import customer_routes
    from app.dev.shop import shop_routes
    from app.errors.rendering import register
    from app.health.routes import health_routes
    from app.identity.callers import Identity
    from app.limits.addresses import limit_addresses
    from app.limits.users import EXTENSION, build_limits
    from app.openapi.page import docs_routes
    from app.operations import operation_routes
    from app.request_hooks import guard, refuse_unreadable_query
    from app.subscription import subscription_routes
    from app.webhooks import webhook_routes
    from billing.webhooks.endpoint import PATH

    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    app.url_map.merge_slashes = False  # a user's id may have two in a row
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    identity = Identity(settings)
    limits = build_limits(settings, services.redis, waiters=waiters)

    app.extensions[EXTENSION] = limits.refusals
    register(app)
    guard(app, origins=settings.redirect_origins, trusted_proxies=settings.trusted_proxies)
    limit_addresses(app, identity=identity, limits=limits, uncounted=PATH)
    app.before_request(refuse_unreadable_query)
    deliveries = webhook_routes(app, services)
    app.register_blueprint(checkout_routes(services, identity=identity, limits=limits))
    app.register_blueprint(operation_routes(services, identity=identity, limits=limits))
    app.register_blueprint(subscription_routes(services, identity=identity, limits=limits))
    app.register_blueprint(customer_routes(services, identity=identity, limits=limits))
    app.register_blueprint(health_routes(services, deliveries))
    app.register_blueprint(docs_routes(shop=shop))
    if settings.console_password or settings.console_user_header:  # else nobody can log in, and /console is 404
        from app.console import console_routes  # it loads doctor and argon2, which no other page needs

        app.register_blueprint(console_routes(services, logins=limits.logins))
    if shop:
        app.register_blueprint(shop_routes(settings, services))
    return app
