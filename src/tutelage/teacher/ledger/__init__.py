"""The ledger: every paid answer, and every charge."""
