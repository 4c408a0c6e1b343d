"""Processing: what the ledger holds after the events of a customer were worked."""

from tests.builders import build_event, build_subscription


def test_event_brings_the_projection_to_what_stripe_says(database, stripe, record, work):
    stripe.put(build_subscription())
    work(record(build_event()))
