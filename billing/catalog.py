"""The catalog: one product, whose key is the tag, and its plans, read from `catalog.toml`.

A client names a plan. The price, the coupon, the trial and the start of billing come from here.
"""

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from billing.errors import ConfigurationError
from billing.process.setting_sources import read_text
from billing.rules.product_tag import is_free_name
from billing.rules.session_extras import wrong_extras

MOST_QUANTITY = 999_999
TABLES = ("session", "access", "portal", "metadata")  # beside [product] and [plans.NAME]


def _is_no_other_id(id_: str) -> str:
    if found := re.match(_OTHER_KINDS, id_):
        raise ValueError(f"{id_} is no price: ids that begin with {found[0]} are of something else")
    return id_


# `price_…`, or the id of an older plan, which its maker chose: at Stripe it is a price, too.
_OTHER_KINDS = r"(prod|prd|cus|sub|si|in|cs|pi|pm|coupon|di|txr|whsec|sk|rk|pk)_"
PriceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,254}$"), AfterValidator(_is_no_other_id)]


class AccessRules(BaseModel):
    """Who has access where Stripe's status does not decide it: the operator's choice, the same for all plans."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    past_due_grace_days: int = Field(default=14, ge=0, le=365)  # while Stripe retries a renewal that failed
    unpaid: Literal["grant", "deny"] = "deny"
    paused: Literal["grant", "deny"] = "deny"
    first_payment_pending: Literal["grant", "deny"] = "grant"  # a debit that takes days, and nothing was ever paid
    collection_paused: Literal["grant", "deny"] = "grant"  # by a person: for free, or to be collected later
    disputed: Literal["grant", "deny"] = "grant"  # the current period's payment: dispute open or lost
    refunded: Literal["grant", "deny"] = "grant"  # the current period's payment, in full
    # Access without a subscription or a card, from a user's first read of their subscription; 0: none.
    product_trial_days: int = Field(default=0, ge=0, le=365)

    @property
    def depends_on_payment(self) -> bool:
        """Whether a dispute or a refund denies access."""
        return "deny" in (self.disputed, self.refunded)


class Plan(BaseModel):
    """A plan that a buyer can subscribe to. Amounts are in the currency's smallest unit, for display only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    name: str = Field(min_length=1, max_length=100)
    description: str = ""
    price: PriceId
    former_prices: tuple[PriceId, ...] = ()  # sold before: whoever still pays one of them has this plan
    stripe_product: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{1,255}$"
    )  # any other price of it is this plan, too
    interval: Literal["day", "week", "month", "year"]
    interval_count: int = Field(1, ge=1, le=36)
    amount: int | None = Field(None, ge=0)
    currency: str | None = Field(None, pattern=r"^[a-z]{3}$")
    min_quantity: int = Field(1, ge=1)
    max_quantity: int = Field(1, ge=1, le=MOST_QUANTITY)
    coupon: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,200}$")
    coupon_for: Literal["first_time", "everyone"] = "first_time"
    coupon_text: str | None = None
    coupon_amount_off: int | None = Field(None, gt=0)
    allow_promotion_codes: bool = False
    metered: bool = False  # a price with usage_type = metered: sold without a quantity
    trial_days: int | None = Field(None, ge=1, le=730)  # once for each user
    # Set, a trial needs no card; this is what becomes of a subscription whose trial ends without one.
    missing_payment_method: Literal["cancel", "pause"] | None = None
    trial_end: int | None = None  # epoch seconds: no charge before
    billing_starts_at: int | None = None  # epoch seconds: free until then, then the billing cycle begins
    commitment_months: int | None = Field(None, ge=1, le=36)  # one period of the price

    @model_validator(mode="after")
    def _makes_sense(self) -> "Plan":
        if self.min_quantity > self.max_quantity:
            raise ValueError("min_quantity is above max_quantity")
        if self.coupon and self.allow_promotion_codes:
            raise ValueError("coupon and allow_promotion_codes exclude each other at Stripe")
        if sum(bool(start) for start in (self.trial_days, self.trial_end, self.billing_starts_at)) > 1:
            raise ValueError("trial_days, trial_end and billing_starts_at exclude each other; set one")
        if self.missing_payment_method and not self.trial_days:
            raise ValueError("missing_payment_method is about a trial; set trial_days, too")
        if self.metered and (self.min_quantity, self.max_quantity) != (1, 1):
            raise ValueError("a metered price is sold without a quantity; leave min_quantity and max_quantity out")
        months = {"month": 1, "year": 12}.get(self.interval, 0) * self.interval_count
        if self.commitment_months and self.commitment_months != months:
            raise ValueError(
                "commitment_months must be one period of the plan: only so does Stripe keep its buyer to it"
            )
        return self


def has_interval_of(plan: Plan, price: Mapping[str, Any]) -> bool:
    """Whether the price, as Stripe gives it, is billed as often as the plan."""
    recurring = price.get("recurring") or {}
    return (plan.interval, plan.interval_count) == (recurring.get("interval"), recurring.get("interval_count", 1))


class Portal(BaseModel):
    """Which of Stripe's portal configurations buyers see; without one, the account's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    configuration: str | None = Field(default=None, pattern=r"^bpc_[A-Za-z0-9]{1,250}$")


class MetadataRules(BaseModel):
    """Which names of `metadata` a buyer's token may set: other programs of the account may go by the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_buyers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _may_be_named(self) -> "MetadataRules":
        if wrong := [name for name in self.from_buyers if not is_free_name(name)]:
            raise ValueError(f"from_buyers names {wrong[0]!r}, which is onelane's own or no name for metadata")
        return self


class Catalog(BaseModel):
    """A product and its plans, by key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
    name: str
    plans: Mapping[str, Plan]
    session: Mapping[str, Any] = {}
    access: AccessRules = AccessRules()
    portal: Portal = Portal()
    metadata: MetadataRules = MetadataRules()

    def plan_of_price(self, price_id: str | None) -> Plan | None:
        """The plan that is sold at this price, or was before; None where there is none."""
        plans = self.plans.values()
        return next((plan for plan in plans if price_id == plan.price or price_id in plan.former_prices), None)

    def plan_sold_as(self, price: object) -> Plan | None:
        """The plan of a price as Stripe gives it: by its id, else by its product; None where we do not sell it.

        Where several plans are prices of one product, the one with the same interval. What is billed by usage is no
        plan.
        """
        if not isinstance(price, Mapping):
            return self.plan_of_price(price if isinstance(price, str) else None)
        if plan := self.plan_of_price(price.get("id")):
            return plan
        product, recurring = price.get("product"), price.get("recurring") or {}
        product = product.get("id") if isinstance(product, Mapping) else product
        if product is None or recurring.get("usage_type") == "metered":
            return None
        plans = [plan for plan in self.plans.values() if plan.stripe_product == product]
        same = [plan for plan in plans if has_interval_of(plan, price)]
        return next(iter(plans if len(plans) == 1 else same), None)

    @model_validator(mode="after")
    def _whole(self) -> "Catalog":
        if not self.plans:
            raise ValueError("there is no plan; add [plans.NAME]")
        prices = [price for plan in self.plans.values() for price in (plan.price, *plan.former_prices)]
        if twice := [price for price in prices if prices.count(price) > 1]:
            raise ValueError(
                f"the same price is named twice, {twice[0]}: it belongs to one plan, as price or former price"
            )
        sold_as = [plan for plan in self.plans.values() if plan.stripe_product]
        if len({(plan.stripe_product, plan.interval, plan.interval_count) for plan in sold_as}) < len(sold_as):
            raise ValueError(
                "two plans with the same interval name the same stripe_product, so its other prices could be either;"
                " name former_prices instead"
            )
        if wrong := wrong_extras(self.session):
            raise ValueError(wrong)
        return self


def load_catalog(path: Path, *, leave_out: Collection[str] = ()) -> Catalog:
    """Read and check the catalog. Raises ConfigurationError with one line that says what to correct.

    `leave_out`: tables that are not looked at.
    """
    try:
        if path.is_dir():  # which Docker makes where a file that it is to mount is missing
            raise ConfigurationError(f"CATALOG: {path} is a folder. Put your catalog there, as a file.")
        raw = tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise ConfigurationError(f"CATALOG: there is no file {path}. Set CATALOG to your catalog's path.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"CATALOG: {path} cannot be read as TOML ({error}). Mend that line.") from None
    return parse_catalog({table: value for table, value in raw.items() if table not in leave_out}, name=str(path))


def parse_catalog(raw: Mapping[str, Any], *, name: str = "the catalog") -> Catalog:
    """Check a catalog's data. Raises ConfigurationError."""
    raw = _resolve(raw)
    product, plans = raw.get("product"), raw.get("plans")
    if not isinstance(product, dict) or not isinstance(plans, dict):
        raise ConfigurationError(f"CATALOG: {name} needs a [product] and at least one [plans.NAME]. Add them.")
    if unknown := set(raw) - {"product", "plans", *TABLES}:
        raise ConfigurationError(f"CATALOG: {name} has an unknown table [{sorted(unknown)[0]}]. Remove it.")
    try:
        return Catalog.model_validate(
            {
                "product": product.get("key"),
                "name": product.get("name", product.get("key")),
                "plans": {key: {**plan, "key": key} if isinstance(plan, dict) else plan for key, plan in plans.items()},
                **{table: raw.get(table, {}) for table in TABLES},
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigurationError(
            f"CATALOG: {name}, {where}: {first['msg'].removeprefix('Value error, ')}. Mend that line."
        ) from None


def _resolve(value: Any) -> Any:
    """Replace "env:NAME[:default]" anywhere in the catalog by the environment's value."""
    if isinstance(value, Mapping):
        return {key: _resolve(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item) for item in value]
    if isinstance(value, str) and value.startswith("env:"):
        name, _, default = value.removeprefix("env:").partition(":")
        found = os.environ.get(name) or default
        if not found:
            raise ConfigurationError(f"CATALOG reads {name}, which is not set. Set {name} in the environment.")
        return found
    return value
