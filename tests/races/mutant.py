"""A mutant: functions of the code replaced by ones that take a shortcut, and what finds it out.

A mutant maps each function it changes to its substitute. The function is the object itself, `steps.create`, and not
its text or its name in a string. So a rename carries the mutant along or is an error at import, and the body can change
as it likes. The substitute gets the real function first, then the arguments of the call. The shapes that several
protocols need are here.

Where a shortcut lies inside a function, that function has a small one for it: `lane_store.unchanged` holds what a
compare-and-set compares.
"""

import functools
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.races.scene import Scene

# Whose imports are followed. The explorer's own calls stay real, but for the worlds that run workers.
FOLLOWED = ("app", "billing", "worker", "tests.support.checkout_world", "tests.support.reconcile_world")


@dataclass(frozen=True)
class Mutant:
    """A shortcut, the functions that it changes, and what it dies of: a scene of the explorer, or one test."""

    shortcut: str
    changes: Mapping[Any, Callable[..., Any]]  # function, method or property -> substitute(real, *arguments)
    scene: Scene | None = None
    test: str | None = None

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Switch it on."""
        for real, substitute in self.changes.items():
            _replace(patch, real, substitute)


def always(answer: Any) -> Callable[..., Any]:
    """Nobody is asked: this is the answer."""
    return lambda _real, *_arguments, **_named: answer


def answered_with(**fields: Any) -> Callable[..., Any]:
    """The real answer, a frozen row, with these fields instead of its own."""
    return lambda real, *arguments, **named: replace(real(*arguments, **named), **fields)


def in_any_case(real: Any, *arguments: Any, **named: Any) -> bool:
    """A compare-and-set is sent, and nobody looks whether it found the row as expected."""
    real(*arguments, **named)
    return True


def new_key(real: Any, gateway: Any, *arguments: Any, idempotency_key: str) -> Any:
    """Whoever sends makes a key of their own."""
    return real(gateway, *arguments, idempotency_key=str(uuid.uuid4()))


def _replace(patch: pytest.MonkeyPatch, real: Any, substitute: Callable[..., Any]) -> None:
    """Put the substitute where the function was defined, and wherever it was imported to."""
    function = real.fget if isinstance(real, property) else real
    *classes, name = function.__qualname__.split(".")
    owner: Any = sys.modules[function.__module__]
    for part in classes:
        owner = getattr(owner, part)
    assert vars(owner)[name] is real, f"{function.__module__}.{function.__qualname__} is replaced already"

    @functools.wraps(function)
    def made(*arguments: Any, **named: Any) -> Any:
        return substitute(function, *arguments, **named)

    patch.setattr(owner, name, property(made) if isinstance(real, property) else made)
    if classes:
        return
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(FOLLOWED):
            for imported in [one for one, value in vars(module).items() if value is real]:
                patch.setattr(module, imported, made)
