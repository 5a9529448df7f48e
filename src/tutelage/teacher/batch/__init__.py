"""The batch API: questions in files, answered within a day at half the price.

batches.py   the class that all else is reached through: reconcile, submit, collect
sending.py   a batch sent once, whoever is killed        intake.py  answers into the ledger
server.py    the calls                                   files.py    shapes and limits
book.py      the ledger's rows about batches             step.py     all of it, for an annotation
"""
