"""Asks a teacher for rationales: clients, requests, rate limits, costs, the ledger of answers."""
