"""A pytest plugin for `make mutation`: what is remembered between calls is worked out anew.

mutmut runs those tests against a mutant that reached its function. A statement that was built once and kept is reached
by the first test only, and its mutants would live because nobody else is asked.
"""

import functools
from collections.abc import Callable
from typing import Any

_cache = functools.cache


def _for_billing_none(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if function.__module__.startswith("billing.") else _cache(function)


functools.cache = _for_billing_none  # type: ignore[assignment]
