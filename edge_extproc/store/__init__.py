"""Persistent state: the usage ledger, and the keys and budgets of the admin API.

Workers only write journals (journal.py). The supervisor is the only process that opens the database.
"""
