"""The phases of a subscription schedule: as they are sent, checked and kept, and read off a subscription.

They follow one another without a gap. Every field that Stripe returns is there, and is accepted back.
"""

from . import discounts, forms, subscription_parameters, tax_rates
from .calls import Call
from .errors import Json, bad_parameter, missing_parameter, refused
from .periods import next_end, step
from .subscription_items import check_currency, check_rhythms, wanted_items

_INVOICES: Json = {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}}
KEPT = ("collection_method", "default_payment_method", "description")


def new_phases(
    call: Call,
    sent: list[Json],
    *,
    start: int,
    current: Json | None,
    currency: str | None = None,
    billing_mode: Json | None = None,
) -> list[Json]:
    """The phases as sent, from `start` on; `current` is the one that runs, whose beginning cannot be moved.

    All have one `currency`: the subscription's, else the first one's.
    """
    if not sent:
        raise bad_parameter("You must provide at least one phase.", "phases")
    phases: list[Json] = []
    for index, each in enumerate(sent):
        where = f"phases[{index}]"
        if not each.get("items"):
            raise missing_parameter(f"{where}[items]")
        begins = phases[-1]["end_date"] if index else start
        given = each.get("start_date")
        if index == 0 and current is not None:
            if given is None:
                raise missing_parameter(f"{where}[start_date]")
            if given != current["start_date"]:
                raise refused("You can not modify the start date of the current phase.", param=f"{where}[start_date]")
        elif given not in (None, begins):
            raise refused("Phases must follow each other without a gap.", param=f"{where}[start_date]")
        phases.append(_phase(call, each, begins, where, currency=currency, billing_mode=billing_mode))
        currency = phases[0]["currency"]
        if phases[-1]["end_date"] <= call.now:
            raise refused("The end of a phase must be in the future.", param=f"{where}[end_date]")
    return phases


def _phase(call: Call, sent: Json, start: int, where: str, *, currency: str | None, billing_mode: Json | None) -> Json:
    wanted = wanted_items(call, sent["items"], f"{where}[items]")
    check_rhythms([each["price"] for each in wanted], billing_mode, f"{where}[items]")
    price = wanted[0]["price"]
    for expected in (sent.get("currency"), currency):
        check_currency(price, expected, f"{where}[items][0][price]")
    discounts.wanted(call, sent.get("discounts"), f"{where}[discounts]", price["currency"])
    rates = tax_rates.wanted(call, sent.get("default_tax_rates"), f"{where}[default_tax_rates]")
    tax = sent.get("automatic_tax")
    return {
        **_blank(price["currency"], start, _end(sent, start, price["recurring"], where)),
        **{name: sent[name] for name in (*KEPT, "billing_cycle_anchor", "trial_end") if name in sent},
        **({"automatic_tax": _tax(tax)} if tax else {}),
        "add_invoice_items": [_one_off(call, each, where) for each in sent.get("add_invoice_items") or []],
        "default_tax_rates": rates,
        "discounts": _discounts(sent.get("discounts")),
        "invoice_settings": {**_INVOICES, **sent["invoice_settings"]} if sent.get("invoice_settings") else None,
        "items": [_item(each, given) for each, given in zip(wanted, sent["items"], strict=True)],
        "metadata": forms.merge_metadata({}, sent.get("metadata")),
        "proration_behavior": sent.get("proration_behavior") or "create_prorations",
    }


def _one_off(call: Call, sent: Json, where: str) -> Json:
    if not sent.get("price"):
        raise missing_parameter(f"{where}[add_invoice_items][0][price]")
    price = call.named("price", sent["price"], param=f"{where}[add_invoice_items]")
    if price["recurring"]:
        raise refused("Only one-time prices can be added to an invoice.", param=f"{where}[add_invoice_items]")
    return {
        "discounts": [],
        "metadata": forms.merge_metadata({}, sent.get("metadata")),
        "period": {"end": {"type": "phase_end"}, "start": {"type": "phase_start"}},
        "price": price["id"],
        "quantity": 1 if sent.get("quantity") is None else sent["quantity"],
        "tax_rates": [],
    }


def _tax(sent: Json) -> Json:
    enabled = bool(sent.get("enabled"))
    return {"disabled_reason": None, "enabled": enabled, "liability": {"type": "self"} if enabled else None}


def _item(wanted: Json, sent: Json) -> Json:
    return {
        "billing_thresholds": None,
        "discounts": _discounts(sent.get("discounts")),
        "metadata": forms.merge_metadata({}, wanted["metadata"]),
        "plan": wanted["price"]["id"],
        "price": wanted["price"]["id"],
        **({} if wanted["quantity"] is None else {"quantity": wanted["quantity"]}),
        "tax_rates": wanted["tax_rates"],
    }


def _discounts(sent: list[Json] | None) -> list[Json]:
    return [{"coupon": None, "discount": None, "promotion_code": None, **one} for one in sent or []]


def _end(sent: Json, start: int, recurring: Json, where: str) -> int:
    if sent.get("end_date") and sent.get("duration"):
        raise bad_parameter("You may only specify one of these parameters: end_date, duration.", f"{where}[end_date]")
    if sent.get("end_date"):
        return int(sent["end_date"])
    if length := sent.get("duration"):
        return step(start, {"interval": length.get("interval"), "interval_count": length.get("interval_count") or 1})
    return next_end(start, start, recurring)


def of_subscription(old: Json) -> Json:
    """The one phase of a schedule that is made from a subscription: the subscription as it is, until its end."""
    first = old["items"]["data"][0]
    end = old["cancel_at"] or first["current_period_end"]
    return {
        **_blank(old["currency"], first["current_period_start"], end),
        "automatic_tax": old["automatic_tax"],
        "collection_method": old["collection_method"],
        "default_payment_method": old["default_payment_method"],
        "default_tax_rates": old["default_tax_rates"],
        "description": old["description"],
        "discounts": _discounts([{"discount": id} for id in old["discounts"]]),
        "invoice_settings": {**_INVOICES, "days_until_due": old["days_until_due"]},
        "items": [
            {
                "billing_thresholds": None,
                "discounts": _discounts([{"discount": id} for id in item["discounts"]]),
                "metadata": item["metadata"],
                "plan": item["price"]["id"],
                "price": item["price"]["id"],
                **({"quantity": item["quantity"]} if "quantity" in item else {}),
                "tax_rates": item["tax_rates"],
            }
            for item in old["items"]["data"]
        ],
        "trial_end": old["trial_end"] if old["status"] == "trialing" else None,
    }  # fmt: skip


def _blank(currency: str, start: int, end: int) -> Json:
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": currency,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "end_date": end,
        "invoice_settings": None,
        "items": [],
        "metadata": {},
        "on_behalf_of": None,
        "proration_behavior": "create_prorations",
        "start_date": start,
        "transfer_data": None,
        "trial_end": None,
    }


_ONE_OFF: forms.Table = {
    "metadata": forms.metadata,
    "period": forms.table(
        {
            "end": forms.table({"type": forms.one_of("phase_end")}),
            "start": forms.table({"type": forms.one_of("phase_start")}),
        }
    ),
    "price": forms.identifier,
    "quantity": forms.integer(0),
}
PHASE: forms.Table = {
    "add_invoice_items": forms.items(forms.table(_ONE_OFF), 20),
    "automatic_tax": forms.table(
        {"enabled": forms.boolean, "liability": forms.table({"type": forms.one_of("self")})},
    ),
    "billing_cycle_anchor": forms.one_of("automatic", "phase_start"),
    "collection_method": forms.one_of("charge_automatically", "send_invoice"),
    "currency": forms.text(3),
    "default_payment_method": forms.text(),
    "default_tax_rates": tax_rates.PARAMETER,
    "description": forms.text(500),
    "discounts": discounts.PARAMETER,
    "duration": forms.table(
        {"interval": forms.one_of("day", "week", "month", "year"), "interval_count": forms.integer(1, 36)}
    ),
    "end_date": forms.moment,
    "invoice_settings": forms.table(
        {"days_until_due": forms.integer(0), "issuer": forms.table({"type": forms.one_of("self")})}
    ),
    "items": forms.items(forms.table(subscription_parameters.ITEM), 20),
    "metadata": forms.metadata,
    "proration_behavior": subscription_parameters.PRORATIONS,
    "start_date": forms.either("now", forms.moment),
    "trial_end": forms.moment,
}
