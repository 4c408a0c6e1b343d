"""The sandbox without a network, as `onelane.testing` has it, for our own tests."""

import stripe

from onelane.testing.in_process import API_KEY, InProcess, Unpaced, gateway

__all__ = ["API_KEY", "InProcess", "Unpaced", "gateway"]

stripe.HTTPClient.INITIAL_DELAY = 0  # between two tries of the SDK: a test does not wait
