"""Operations: a buyer changes their subscription, or opens Stripe's portal (specs/subscriptions.md, Operations).

requests   records what the buyer asks for, waits for the answer and reads it
work       a worker's pass over one lane: the lock, the oldest operation, what is planned, what is next
deciding   from what Stripe says now to the next write, the end, or a refusal; pure
looking    which subscription it is about, and what Stripe says of it now
calls      sends a write that the row holds, and says what its answer means
operation_ledger   the rows: each change a compare-and-set on (version)
"""
