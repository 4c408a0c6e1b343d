"""What operators run: the report, lookups, erasing a user, and the binding of a ledger to an account."""
