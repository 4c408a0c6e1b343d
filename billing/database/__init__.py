"""The database of the ledger, SQLite or PostgreSQL.

engine      connections and short transactions; the driver's errors as errors of ours
postgres, sqlite  what each of them needs
suitable    what a database has to be
address, driver_errors, watch  DATABASE_URL; what an error means; no connection without an end
inserts     inserts that mind the rows that are there
migrations  the tables, brought to this version
"""

from billing.database.engine import Database, run_in_transaction
from billing.database.inserts import insert_new, insert_new_id, upsert

__all__ = ["Database", "insert_new", "insert_new_id", "run_in_transaction", "upsert"]
