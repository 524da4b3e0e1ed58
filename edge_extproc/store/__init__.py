"""What outlives a process: the usage ledger, and what the admin API manages.

Workers only write journals (journal.py); the database is opened by whoever watches over them.
"""
