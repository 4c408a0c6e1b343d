"""Limits, in the order in which a request of a buyer meets them; only the first two refuse, both with one 429.

1. A rate per client address, before the credential is looked at, which slows down guessing at tokens (API-39).
2. A rate per user, before the body is looked at (API-30). A server key speaks for many users: each has their own.
   A second one counts the checkouts of a user that differ from the one before (API-110).
3. A semaphore for the requests that wait for a worker, each of which holds a thread, with a share per user (API-22).

Rates are counted in Redis for all processes together. While Redis is down each process counts on for itself (API-31).
"""
