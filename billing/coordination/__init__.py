"""What processes say to each other: jobs through the queue, wake-ups to who waits, and locks.

All of it only saves time. What is true stands in the ledger, and the sweep finds what was lost here.
"""
