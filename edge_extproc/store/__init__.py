"""What is kept in a database: the usage ledger, and what the admin API manages. No worker ever opens it."""
