"""A customer's timeline: everything that is known of them as one list, the newest first. Pure."""

from collections.abc import Iterator
from datetime import datetime

from billing.operators.listing import Row


def timeline_of(shown: Row) -> list[Row]:
    """What happened, one entry for each moment: `at`, `what` it was, `text`, `status`, its `id` and its `error`."""
    return sorted(_entries(shown), key=lambda entry: entry["at"], reverse=True)


def _entries(shown: Row) -> Iterator[Row]:
    for row in shown["checkouts"]:
        yield _entry(row["arrived_at"], "checkout", row["id"], f"asked for {row['plan']}")
        if row["answered_at"]:
            yield _entry(row["answered_at"], "checkout", row["id"], "answered", row["status"])
    for row in shown["operations"]:
        yield _entry(row["arrived_at"], "operation", row["id"], f"asked to {row['kind'].replace('_', ' ')}")
        if row["finished_at"]:
            yield _entry(row["finished_at"], "operation", row["id"], "finished", row["status"])
    for row in shown["events"]:
        yield _entry(row["received_at"], "event", row["event_id"], row["type"], row["status"], row["error"])
    for row in shown["notifications"]:
        yield _entry(
            row["created_at"], "notification", row["message_id"], row["kind"], row["status"], error=row["error"]
        )
        if row["delivered_at"]:
            yield _entry(row["delivered_at"], "notification", row["message_id"], f"{row['kind']} was taken")
    for row in shown["incidents"]:
        yield _entry(row["opened_at"], "incident", str(row["id"]), row["kind"])
        if row["resolved_at"]:
            yield _entry(row["resolved_at"], "incident", str(row["id"]), "resolved")
    for row in shown["audit"]:
        why = f" ({row['reason']})" if row["reason"] else ""
        yield _entry(row["at"], "operator", "", f"{row['command']} by {row['who']}{why}: {row['outcome'] or 'runs'}")


def _entry(at: datetime, what: str, id_: str, text: str, status: str | None = None, error: str | None = None) -> Row:
    return {"at": at, "what": what, "text": text, "status": status, "id": id_, "error": error}
