"""billing decides: everything that is true without Flask and Celery. Its files, in the order in which data passes them.

A buyer asks. checkout_requests checks the request against catalog and redirects, numbers it in its lane
(lane_ledger, customer_ledger), commits, and sends a job that carries a row id (jobs, queue).
A worker brings the lane to rest. checkout takes the customer lock (locks) and chooses among checkout_steps:
customers makes the one Stripe customer, verify reads what could bill twice and expires strays, session_parameters
says what is sent; lanes has the rules, stripe_gateway alone talks to Stripe. The doorbell wakes the web, and
checkout_view reads the answer through the lane.
The buyer pays, and Stripe delivers. ingest checks the bytes (signature, envelope) and commits them (event_ledger)
before the 2xx. processing claims a customer's events (event_types says which are followed); synchronizing fetches
what is true now, projects it (projection, projection_ledger), notes what changed and closes the events, in one commit.
subscriptions reads that and access decides; notifications sends the changes on (outbox_ledger, notifier).
Whatever was lost on the way, sweeper finds. reports, checks and installation (each with its ledger) serve operators.
The ground: settings, models, database, migrate, clock, errors, logs, process, ids. services wires it all.
"""
