"""billing decides: everything that is true without Flask and Celery. Its files, in the order in which data passes them.

A buyer asks. checkout/requests checks the request against catalog and redirects, numbers it in its lane, commits
(arrival_ledger), and sends a job that carries a row id (jobs, queue). A worker brings the lane to rest: checkout/work
takes the customer lock (locks) and chooses among checkout/steps; customers makes the one Stripe customer
(customer_ledger), checkout/verify reads what could bill twice, stripe_gateway alone talks to Stripe. The doorbell
wakes the web, and checkout/checkout_store reads the answer through the lane.
Later the buyer cancels, reactivates or switches: operations does the same for these, with a row for each and the same
lock, oldest first.
The buyer pays, and Stripe delivers. webhooks/ingest checks the bytes and commits them before the 2xx;
webhooks/processing claims a customer's events; subscriptions/synchronizing fetches what is true now, projects it,
notes what changed and closes the events, in one commit. subscriptions/reading shows it, access decides, and
notifications sends the changes on; duplicates ends what is one too many.
Whatever was lost on the way, sweeper finds; webhooks/replaying has events worked again. reports, overview, checks,
installation (each with its ledger) and webhooks/endpoint serve operators. pace lets buyers' calls to Stripe go first.
The ground: settings, models, database, migrate, clock, errors, logs, process, ids. services wires it all.
"""
