"""billing decides: what is true without Flask and Celery. Its packages, in the order in which data passes them.

A buyer asks. checkout/requests checks the request, numbers it in its lane (customers/lanes), commits, and sends a job
with the lane's id (jobs, queue). A worker brings the lane to rest: checkout/work takes the lane's lock (locks) and
chooses among checkout/steps. customers makes the one Stripe customer, and checkout/verify reads what could bill twice.
Only stripe_gateway talks to Stripe. wakeups wakes the web, and checkout/checkout_store reads the answer.
Later the buyer cancels, reactivates or switches. operations does the same for these, with the same lock, oldest first.
The buyer pays, and Stripe delivers. webhooks/ingest checks the bytes and commits them before the 2xx. webhooks/process
claims a customer's events. subscriptions/sync fetches what is true now, projects it, notes what changed and closes the
events, in one commit. subscriptions/queries shows it, and subscriptions/access decides.
notifications sends changes to the application, and duplicates ends a second subscription.
maintenance finds what was lost on the way, replays events and prunes. operators has what a person runs.
backoff, lease, idempotency and product_tag are one rule each. The ground: settings, models, database, migrations,
clock, errors, logs, ids. services wires it all.
"""
