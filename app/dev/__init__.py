"""Needed by `onelane dev` only: its programs, their supervisor and settings, the embedded Valkey, the shop, tokens."""
