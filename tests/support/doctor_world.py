"""An installation for `onelane doctor`: a folder, an environment, a Stripe and a Redis, all of them right."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from app.dev.settings import sandbox_seed
from billing.clock import Clock
from billing.doctor.examine import examine_installation
from billing.doctor.finding import Finding
from billing.process.settings import Settings, read_settings
from billing.stripe_gateway import API_VERSION
from billing.webhooks.endpoint import PATH, set_up_endpoint
from sandbox.core import Sandbox
from tests.support.builders import CATALOG, MovableClock
from tests.support.in_process import gateway

URL = f"https://app.example.com{PATH}"
KEY = "rk_test_" + "5" * 30


@dataclass
class Place:
    """A folder, an environment, a Stripe, a Redis: everything is right until a row of the table changes it."""

    folder: Path
    redis: "redis.Redis"
    patch: pytest.MonkeyPatch
    environment: dict[str, str]
    clock: MovableClock = field(default_factory=MovableClock)  # Stripe's
    local: Clock | None = None  # this machine's, where it differs
    sandbox: Sandbox = field(init=False)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(clock=lambda: self.clock.time.timestamp(), seed=1)
        self.sandbox.seed(sandbox_seed(CATALOG))
        set_up_endpoint(URL, stripe=gateway(self.sandbox), api_version=API_VERSION, dry_run=False)

    def put(self, **environment: str) -> None:
        """Set these settings."""
        self.environment.update(environment)

    def drop(self, name: str) -> None:
        """Set no such setting."""
        del self.environment[name]

    def at_stripe(self, path: str, **params: Any) -> dict[str, Any]:
        """The operator changes something at Stripe."""
        answer = self.sandbox.request("POST", f"/v1/{path}", params)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def endpoint(self, **fields: Any) -> None:
        """Stripe's endpoint has these fields."""
        self.sandbox.store.change("webhook_endpoint", self.sandbox.store.all("webhook_endpoint")[0]["id"], **fields)

    def catalog(self, text: str) -> None:
        """This is added to the catalog."""
        file = self.folder / "catalog.toml"
        file.write_text(f"{file.read_text('utf-8')}\n{text}\n", "utf-8")

    def examined(self) -> list[Finding]:
        """What doctor says."""
        clock = self.local or self.clock
        for name, value in self.environment.items():
            self.patch.setenv(name, value)

        def connect(settings: Settings) -> Any:
            key = settings.stripe_api_key
            return gateway(self.sandbox, clock=clock, api_key=key.get_secret_value()) if key else None

        names = set(self.environment)
        return list(examine_installation(read_settings, connect=connect, names=names, tries=True, clock=clock))
