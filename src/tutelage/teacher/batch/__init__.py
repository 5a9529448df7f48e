"""The batch API: requests in files, answered within a day at half the price.

rounds.py    batches as one step of an annotation
batches.py   the class that callers use: reconcile, submit, collect
submit.py    sends each batch once, even if the process is killed
collect.py   stores the answers in the ledger
server.py    the calls to the server
jsonl.py     the formats of files and batches, and their limits
table.py     the ledger's table of batches
"""
