"""The ledger: every paid answer, and every dollar that was charged for it."""
