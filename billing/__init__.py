"""billing decides: everything that is true without Flask and Celery. In the order in which data passes its packages:

checkout        a buyer's request becomes a row; a worker brings the lane to rest; the web reads the answer from the row
operations      the same for a buyer's cancellation, reactivation, plan switch or visit to Stripe's portal
webhooks        a delivery is verified and committed before the 2xx; a worker works the customer's events
subscriptions   fetch a customer from Stripe, write the projection and its changes in one commit; decide access
duplicates      more than one live subscription of a customer: the incident, the policy, the remedy
notifications   send each change to the application, in order
customers       the one Stripe customer of each user, and the user's lane of each product
maintenance     find what was lost: the sweep, reconciling, replays, pruning
operators       what an operator runs: report, lookup, tail, erase
doctor          what is wrong with this installation, and the fix

Below them: stripe_gateway alone calls Stripe; coordination is what processes say to each other (jobs, queue, wakeups,
locks). One rule each, in rules: backoff, lease, idempotency, product_tag. The ground: catalog, models, database with
its migrations, process (settings, logs, exits), clock, ids, errors. services builds all of it, once per process.
"""
