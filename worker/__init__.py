"""The worker hears the queue: a message names a row, a task calls the flow of that kind in `billing`.

`python -m worker work` consumes queues, `python -m worker beat` sends the sweep (`onelane worker`, `onelane beat`).
No SQL, no Stripe, no rules here.
"""
