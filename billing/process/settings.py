"""Settings: read once from the environment, `*_FILE` secrets, `.env` and a running `onelane dev`.

A wrong value stops the start with one line that says what to set (OPS-1). Secrets are `SecretStr`, so that printing a
`Settings` shows none of them.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from billing.errors import ConfigurationError
from billing.process.setting_sources import FilesSource, RunningDevSource, Unreadable
from billing.process.setting_types import (
    BrokerUrl,
    JwtSecret,
    Origins,
    Rate,
    RedisUrl,
    Secrets,
    StripeKey,
    WebAddress,
)
from billing.process.unsafe_settings import unsafe_settings

KEY_PREFIX = "onelane:"
QUOTES = ("'", '"')


class Settings(BaseSettings):
    """Every setting, named as in the environment but in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8-sig", extra="ignore", frozen=True, env_ignore_empty=True
    )

    port: int = Field(8000, ge=1, le=65535)
    bind: str = "127.0.0.1"
    keep_alive_seconds: int = Field(75, ge=1, le=3600)
    database_url: str = "sqlite:///var/ledger.sqlite3"
    database_pool_size: int = Field(10, ge=1, le=1000)
    database_prepare: bool = True
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    # What every key in Redis begins with; an ACL may name it (~onelane:*).
    redis_key_prefix: str = Field(KEY_PREFIX, pattern=r"^[A-Za-z0-9._:-]{1,64}$")
    celery_broker_url: BrokerUrl | None = None

    stripe_api_key: StripeKey | None = None
    stripe_api_base: WebAddress | None = None
    stripe_webhook_secrets: Secrets = ()
    stripe_timeout_seconds: float = Field(10, gt=0, le=60)
    stripe_max_per_second: float = Field(20, gt=0, le=10_000)
    stripe_account: str | None = Field(None, pattern=r"^acct_[A-Za-z0-9_]{1,250}$")
    stripe_livemode: bool | None = None

    auth_jwt_secret: JwtSecret | None = None
    auth_jwks_url: WebAddress | None = None
    auth_issuer: str | None = None
    auth_audience: str | None = None
    auth_api_keys: Secrets = ()
    console_password: SecretStr | None = None
    console_viewer_password: SecretStr | None = None
    # A header in which a proxy that logs people in names them. Underscores: no server lets such a header pass.
    console_user_header: str | None = Field(None, pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")
    metrics_token: SecretStr | None = None
    otel_exporter_otlp_endpoint: WebAddress | None = None
    sentry_dsn: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    catalog: Path = Path("catalog.toml")
    metrics_dir: Path | None = None
    redirect_origins: Origins = ()
    checkout_wait_seconds: float = Field(3, ge=0, le=20)
    checkout_reuse_seconds: int = Field(900, ge=0, le=86_400)
    customer_lock_seconds: int = Field(30, ge=5, le=300)
    rate_limit_checkouts: Rate = "30/minute"
    # Of one user's checkouts those that say something else than the one before: each may make a payment page.
    rate_limit_different_checkouts: Rate = "60/hour"
    rate_limit_reads: Rate = "300/minute"
    # Ten users at RATE_LIMIT_READS: offices and mobile networks share one address.
    rate_limit_addresses: Rate = "3000/minute"
    trusted_proxies: int = Field(0, ge=0, le=10)
    webhook_max_bytes: int = Field(1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    retention_days: int = Field(30, ge=1, le=3650)
    # 40: longer than Stripe lists events (30), else reconciling takes a pruned event for a lost one.
    retention_rows_days: int = Field(365, ge=40, le=36_500)

    app_webhook_url: WebAddress | None = None
    app_webhook_secret: SecretStr | None = None
    app_handlers: str | None = Field(None, pattern=r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|.+\.py)$")  # a module, or its file
    duplicate_policy: Literal["alert", "cancel_newest"] = "alert"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: arguments, environment, `NAME_FILE`, `.env`, then what a running `onelane dev` uses."""
        return (init_settings, env_settings, FilesSource(settings_cls), dotenv_settings, RunningDevSource(settings_cls))

    @field_validator("*", mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, Unreadable):
            raise ValueError(f"{value.setting} cannot be read. Set it to the path of a readable text file.")  # noqa: TRY004
        if not isinstance(value, str):
            return value
        text = value.strip()  # a secret that was made with `echo` ends in a line break
        if value and not text:
            raise ValueError("is blank; set it, or leave it out")
        if text[:1] in QUOTES and text[1:].endswith(text[:1]):
            raise ValueError("has quotes around it, which docker's --env-file keeps; take them away")
        return text

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        wrong = []
        if self.auth_jwt_secret and self.auth_jwks_url:
            wrong.append("AUTH_JWT_SECRET and AUTH_JWKS_URL exclude each other; set one of them")
        if self.app_webhook_url and not self.app_webhook_secret:
            wrong.append("APP_WEBHOOK_URL needs APP_WEBHOOK_SECRET; set it to the signing secret")
        if self.app_webhook_url and self.app_handlers:
            wrong.append("APP_WEBHOOK_URL and APP_HANDLERS exclude each other; set one of them")
        if self.console_viewer_password and not self.console_password:
            wrong.append("CONSOLE_VIEWER_PASSWORD needs CONSOLE_PASSWORD; set it to a password that may change things")
        if wrong:
            raise ValueError(". ".join(wrong))
        return self

    @cached_property
    def broker_url(self) -> str:
        return self.celery_broker_url or self.redis_url


class WrongSettings(ConfigurationError):
    """Settings that make no sense: `sentences` has one for each, and the error's own sentence is the first."""

    def __init__(self, sentences: Sequence[str]) -> None:
        more = f" {len(sentences) - 1} more: `onelane doctor` lists them." if sentences[1:] else ""
        super().__init__(sentences[0] + more)
        self.sentences = tuple(sentences)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises WrongSettings, whose line names the first that is wrong or opens the door."""
    settings = read_settings(**overrides)
    if unsafe := unsafe_settings(settings):
        raise WrongSettings(unsafe)
    return settings


def read_settings(**overrides: Any) -> Settings:
    """The settings, also those that `load_settings` refuses as unsafe (for `onelane doctor`). Raises WrongSettings."""
    try:
        return Settings(**overrides)
    except UnicodeDecodeError:
        raise ConfigurationError("The file .env is not in UTF-8. Write it anew in UTF-8.") from None
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise WrongSettings(list(dict.fromkeys(map(_sentence, found)))) from None


# Pydantic's own problems with a value, in words that say what to set; others are ours, or rare.
_PROBLEMS = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
}


def _sentence(error: ErrorDetails) -> str:
    name, problem = (str(part).upper() for part in error["loc"][:1]), error["msg"].removeprefix("Value error, ")
    if error["type"] in _PROBLEMS:
        problem = _PROBLEMS[error["type"]].format(**error.get("ctx", {}))
    for setting in name:
        file = f"{setting}_FILE"
        how = f"Set {setting} as `onelane settings` says."
        return problem if problem.startswith(file) else f"{setting}: {problem}. {how}"
    return f"{problem}."
