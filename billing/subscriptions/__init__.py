"""Subscriptions: Stripe's state as last fetched, and the access that it grants (specs/subscriptions.md).

sync            fetch one customer from Stripe and write the projection, guarded by the generation
fetch           everything of one customer at Stripe; payment_status adds disputes and refunds
projection      a Stripe subscription as a row, and the changes between two states (pure)
stripe_fields   what single fields of Stripe's say (pure)
access          the rows as a decision: granted or not, why, until when (pure)
troubles        what of the rows is an incident, and what a person does about it (pure)
queries         what a buyer reads
product_trial   access without a subscription, once for each user
projection_store   the rows
"""
