"""`onelane settings`: every setting and every key of the catalog, as the page docs/settings.md.

The page is made by this command (`onelane settings > docs/settings.md`), and a test holds it equal.
"""

from collections.abc import Iterator, Mapping
from typing import get_args

import click
from pydantic import BaseModel

from billing.catalog import AccessRules, MetadataRules, Plan, Portal
from billing.process.setting_docs import SECTIONS, default_of
from billing.rules.session_extras import ALLOWED

PRODUCT = {
    "key": "the tag: `metadata.type` of every session and subscription of yours. It never changes",
    "name": "for people",
}
PLAN = {
    "name": "for people",
    "description": "for people",
    "price": "Stripe's price",
    "former_prices": "prices that it had before: who pays one of them has this plan",
    "stripe_product": "any other price of this product of Stripe's is this plan, too",
    "interval": "how often it is paid",
    "interval_count": "so many intervals are one period",
    "amount": "in the currency's smallest unit, for display: Stripe's price decides what is paid",
    "currency": "for display, in small letters",
    "min_quantity": "the fewest seats, and how many a checkout without a quantity is for",
    "max_quantity": "the most seats",
    "coupon": "Stripe's coupon for a first payment",
    "coupon_for": "who gets it; `first_time`: who never paid",
    "coupon_text": "for people",
    "coupon_amount_off": "what the sandbox's coupon takes off; at Stripe the coupon itself decides",
    "allow_promotion_codes": "whether Stripe's page takes codes; excludes `coupon`",
    "metered": "the price is billed by use: sold without a quantity",
    "trial_days": "a trial, once for each user",
    "missing_payment_method": "a trial asks for no card; this becomes of a subscription whose trial ends without one",
    "trial_end": "no charge before, in seconds since 1970",
    "billing_starts_at": "free until then, when the billing cycle begins, in seconds since 1970",
    "commitment_months": "until when the buyer is bound; one period of the price",
}
ACCESS = {
    "past_due_grace_days": "how long a renewal may fail before access ends; never for a first payment",
    "unpaid": "Stripe gave up trying, and keeps the subscription",
    "paused": "a trial ended without a card, or it was paused at Stripe",
    "first_payment_pending": "the first debit is on its way for days, and nothing was ever paid",
    "collection_paused": "a person paused collecting the invoices",
    "disputed": "the payment for this period is disputed, or the dispute was lost",
    "refunded": "the payment for this period was paid back, wholly",
    "product_trial_days": "access without a subscription and a card, from a user's first look; 0: none",
}
PORTAL = {"configuration": "which of Stripe's portal configurations buyers see; without one the account's default"}
METADATA = {"from_buyers": "the names of metadata that a buyer's own token may set; your server may set any"}
TABLES: tuple[tuple[str, type[BaseModel], Mapping[str, str]], ...] = (
    ("[plans.NAME]", Plan, PLAN),
    ("[access]", AccessRules, ACCESS),
    ("[portal]", Portal, PORTAL),
    ("[metadata]", MetadataRules, METADATA),
)


@click.command()
def settings() -> None:
    """Print every setting and every key of the catalog, in Markdown."""
    click.echo("\n".join(page()))


def page() -> Iterator[str]:
    """The lines of docs/settings.md."""
    yield "# Settings and catalog"
    yield ""
    yield "This page is printed by `onelane settings`. `onelane init` writes a `.env` with the same words."
    yield ""
    yield "Settings come from the environment, from a `.env` in the working directory, or a file: `NAME_FILE` names one"
    yield "whose text is the value of `NAME`. A wrong value stops the start with a sentence that says what to set."
    for section, names in SECTIONS.items():
        yield from ("", f"## {section}", "")
        yield from _table((f"`{name}`", _code(default_of(name)), text) for name, text in names.items())
    yield from ("", "## The catalog", "")
    yield '`CATALOG` names a file in TOML. A value `"env:NAME"` or `"env:NAME:default"` is read from the environment.'
    yield from ("", "### `[product]`", "")
    yield from _table((f"`{key}`", "needed" if key == "key" else "", text) for key, text in PRODUCT.items())
    for title, model, meanings in TABLES:
        yield from ("", f"### `{title}`", "")
        yield from _table(
            (f"`{key}`", _default(model, key), _with_values(model, key, text)) for key, text in meanings.items()
        )
    yield from ("", "### `[session]`", "")
    yield "Added to each checkout session, as Stripe names it. What Stripe would refuse of it stops the start. It may"
    yield f"have {', '.join(f'`{name}`' for name in ALLOWED)}."


def _table(rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    yield from ("| name | default | meaning |", "|---|---|---|")
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return "needed"
    value = field.get_default()
    return "" if value in (None, "", ()) else _code(str(value).lower() if isinstance(value, bool) else str(value))


def _with_values(model: type[BaseModel], key: str, text: str) -> str:
    """The meaning, with the values where there are few."""
    values = [value for part in (model.model_fields[key].annotation, *get_args(model.model_fields[key].annotation))
              for value in get_args(part) if isinstance(value, str)]  # fmt: skip
    words = ", ".join(f"`{value}`" for value in dict.fromkeys(values))
    return f"{text} ({words})" if words and not all(f"`{value}`" in text for value in values) else text


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
