"""What products, prices and coupons share: an id of the caller's own, a change, a read."""

from typing import Any

from . import forms
from .calls import Call
from .errors import Json, refused
from .events import emit


def check_id(call: Call, kind: str, params: Json) -> None:
    if params.get("id") and call.store.get(kind, params["id"]) is not None:
        raise refused(f"{kind.capitalize()} already exists.", code="resource_already_exists", param="id")


def update(call: Call, kind: str, params: Json, **also: Any) -> Json:
    old = call.named(kind, params["id"])
    fields = {name: value for name, value in params.items() if name not in ("id", "metadata", "expand")}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    one = call.store.change(kind, old["id"], **fields, **also)
    emit(call, f"{kind}.updated", one, previous=old)
    return one


def same(one: Json, params: Json, *names: str) -> bool:
    return all(params.get(name) is None or one[name] == params[name] for name in names)


def retrieve(kind: str) -> Any:
    return lambda call, params: call.named(kind, params["id"])
