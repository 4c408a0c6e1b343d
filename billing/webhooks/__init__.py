"""Webhooks: what Stripe delivers is committed first and worked afterwards (specs/webhooks.md).

ingest      verify the bytes (signature), read the envelope, commit, and only then answer and wake a worker
process     work one customer after the other: sync them once for all that is due, close it in the same commit
claim       which customer is next, and whether their events are worked now or with what comes within a second
resolve_customer   find out whose an event is that names no customer: disputes and thin notifications
event_types which events are followed, and when each occurs
envelope, signature, events_store   the strict reading, the strict verifying, the rows
"""
