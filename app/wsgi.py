"""The WSGI application that granian loads: `granian --interface wsgi app.wsgi:application`.

Settings are read here once per process; ONELANE_SHOP=1 (set by `onelane dev`) adds the shop page.
"""

import os

from app import create_app
from billing.logs import configure_logging
from billing.process import plain_exits
from billing.services import build_services
from billing.settings import load_settings

with plain_exits():
    # None: the web holds no key, even where .env or a running `onelane dev` names one.
    settings = load_settings(stripe_api_key=None)
    configure_logging(settings, process="web")
    application = create_app(settings, build_services(settings), shop=os.environ.get("ONELANE_SHOP") == "1")
