"""The phases of a subscription schedule: as they are sent, checked and kept.

They follow one another without a gap. What the current one bills stays as it is: the sandbox makes no prorations.
"""

from typing import Any

from . import forms
from .calls import Call
from .errors import Json, bad_parameter, missing_parameter, refused
from .periods import next_end, step
from .subscription_items import wanted_items


def new_phases(call: Call, old: Json, sent: list[Json]) -> list[Json]:
    """The phases as sent. The current one keeps its start and what it bills: the sandbox makes no prorations."""
    if not sent:
        raise bad_parameter("You must provide at least one phase.", "phases")
    current = old["current_phase"]
    phases: list[Json] = []
    for index, each in enumerate(sent):
        where = f"phases[{index}]"
        if not each.get("items"):
            raise missing_parameter(f"{where}[items]")
        start = each.get("start_date") if index == 0 else phases[-1]["end_date"]
        if start is None:
            raise missing_parameter(f"{where}[start_date]")
        if index == 0 and start != current["start_date"]:
            raise refused("You can not modify the start date of the current phase.", param=f"{where}[start_date]")
        if index and each.get("start_date") not in (None, start):
            raise refused("Phases must follow each other without a gap.", param=f"{where}[start_date]")
        wanted = wanted_items(call, each["items"], f"{where}[items]")
        end = _end(each, start, wanted[0]["price"]["recurring"], where)
        if end <= call.now:
            raise refused("The end of a phase must be in the future.", param=f"{where}[end_date]")
        items = [{"price": one["price"]["id"], "quantity": one["quantity"]} for one in wanted]
        given = [{"coupon": None, "discount": None, "promotion_code": None, **one} for one in each.get("discounts", [])]
        phases.append(
            phase(
                items,
                start,
                end,
                discounts=given,
                trial_end=each.get("trial_end"),
                proration_behavior=each.get("proration_behavior") or "create_prorations",
                metadata=each.get("metadata"),
            )
        )
    old_items = [(one["price"], one["quantity"]) for one in _current(old)["items"]]
    if [(one["price"], one["quantity"]) for one in phases[0]["items"]] != old_items:
        raise refused("The sandbox does not change what the current phase bills.", param="phases[0][items]")
    return phases


def _current(old: Json) -> Json:
    start = old["current_phase"]["start_date"]
    return next(one for one in old["phases"] if one["start_date"] == start)


def _end(each: Json, start: int, recurring: Json, where: str) -> int:
    if each.get("end_date") and each.get("duration"):
        raise bad_parameter("You may only specify one of these parameters: end_date, duration.", f"{where}[end_date]")
    if each.get("end_date"):
        return int(each["end_date"])
    if each.get("duration"):
        length = each["duration"]
        return step(start, {"interval": length.get("interval"), "interval_count": length.get("interval_count") or 1})
    return next_end(start, start, recurring)


def phase(
    items: list[Json],
    start: int,
    end: int,
    *,
    discounts: list[Json],
    trial_end: int | None = None,
    proration_behavior: str = "create_prorations",
    metadata: Any = None,
) -> Json:
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": "usd",
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": discounts,
        "end_date": end,
        "invoice_settings": None,
        "items": [
            {**one, "billing_thresholds": None, "discounts": [], "metadata": {}, "plan": one["price"], "tax_rates": []}
            for one in items
        ],
        "metadata": metadata or {},
        "on_behalf_of": None,
        "proration_behavior": proration_behavior,
        "start_date": start,
        "transfer_data": None,
        "trial_end": trial_end,
    }


PHASE: forms.Table = {
    **forms.unsupported("add_invoice_items", "application_fee_percent", "billing_thresholds", "trial", "transfer_data"),
    "automatic_tax": forms.anything,
    "billing_cycle_anchor": forms.one_of("automatic", "phase_start"),
    "collection_method": forms.one_of("charge_automatically", "send_invoice"),
    "currency": forms.text(3),
    "default_payment_method": forms.text(),
    "description": forms.text(500),
    "discounts": forms.items(forms.table({"coupon": forms.identifier, "discount": forms.identifier})),
    "duration": forms.table(
        {"interval": forms.one_of("day", "week", "month", "year"), "interval_count": forms.integer(1, 36)}
    ),
    "end_date": forms.moment,
    "items": forms.items(
        forms.table({"price": forms.identifier, "quantity": forms.integer(0), "metadata": forms.metadata}), 20
    ),
    "metadata": forms.metadata,
    "proration_behavior": forms.one_of("create_prorations", "none", "always_invoice"),
    "start_date": forms.moment,
    "trial_end": forms.moment,
}
