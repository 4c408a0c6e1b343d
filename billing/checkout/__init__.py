"""Checkout: a buyer's request becomes one row, one lane, one session (specs/checkout.md, specs/lanes.md).

requests   records what the buyer asks for (step 0), and reads what became of it
work       a worker's pass: the lock, the lane row, and which step is next
steps      steps 3 to 11 of the protocol, one small function each
verify     what Stripe has that could bill twice; orphaned sessions are expired on the way
checkout_store   the rows of checkouts: answered by a worker, read as their buyers may see them
lane_store       the rows of lanes and attempts
session_parameters            what a session is created with: price, coupon, trial and start, and what the buyer asked
rules, context                what is stale, equal or orphaned; the collaborators
close, orphaned_sessions      a lane closed for good; sessions that no attempt owns, between checkouts
"""
