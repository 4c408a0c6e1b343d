"""Subscriptions: Stripe's state as last fetched, what it means for access, and who is told (specs/subscriptions.md).

synchronizing  fetch one customer from Stripe and project it, guarded by the generation
projection     a subscription of Stripe's as a row, and the differences between two readings
access         the rows as a decision: granted or not, why, until when
duplicates     more than one: which stays (keeping), canceling the others, paying them back (refunds, remedy_ledger)
reading        what a buyer is shown
notifications  changes to the application, in order and signed (notifier)
projection_ledger, outbox_ledger   the rows
"""
