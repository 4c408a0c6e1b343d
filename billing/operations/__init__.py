"""Operations: a buyer changes their subscription, or opens Stripe's portal (specs/subscriptions.md, Operations).

requests   records what the buyer asks for, waits for the answer and reads it
work       a worker's pass over one lane: the lock, the oldest operation, and which step is next
steps      steps 3 to 6: send what is planned, look at Stripe, decide, plan or end
decide     from what Stripe says now to the next write, the end, or a refusal; pure
snapshot   which subscription it is about, and what Stripe says of it now
store      the rows: each change a compare-and-set on the version
"""
