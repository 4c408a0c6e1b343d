"""onelane's sandbox: a Stripe that keeps state, reachable by any Stripe SDK. It shares no code with the product.

api.py        request in, answer out, without HTTP
core.py       Sandbox: that, and what buyers, people and time do
routes.py     every address; each resource has its own file
known.py      what Stripe has, to tell what is left out from what does not exist
paying.py     what a buyer does; cycle.py what passing time does
events.py     what happened, thin.py the same in v2's form; webhooks.py and delivery.py send it to endpoints
http.py       the same over HTTP, with control.py, pages.py and server.py
"""

from .answers import Answer
from .core import Sandbox
from .errors import ApiError
from .faults import Fault
from .webhooks import Endpoint

__all__ = ["Answer", "ApiError", "Endpoint", "Fault", "Sandbox"]
