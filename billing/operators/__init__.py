"""What an operator asks: the doctor's checks, the report, the lists, and which account the ledger belongs to."""
