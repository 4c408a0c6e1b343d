"""Rules that every flow follows, each in one place: backoff, lease, client keys, and the tag of our product."""
