"""Who calls: buyers with a signed token or servers with a key (`callers`), and the keys that sign (`key_set`)."""
