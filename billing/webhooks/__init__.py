"""Webhooks: what Stripe delivers is committed first and worked afterwards (specs/webhooks.md).

ingest      verify the bytes (signature), read the envelope, commit, and only then answer and wake a worker
processing  claim a customer's events, sync the customer once for all of them, close them in the same commit
whose       find out whose an event is that names no customer: disputes and thin notifications
holding     renew the lease of what is claimed, and say what counts as an attempt
turn_ledger whether a customer's events are worked now, or with what comes within a second
event_types which events are followed, and when each occurs
envelope, signature, event_ledger   the strict reading, the strict verifying, the rows
"""
