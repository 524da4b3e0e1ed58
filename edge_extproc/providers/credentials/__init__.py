"""Credentials for providers: one file a kind. What must be fetched is fetched off the path of requests."""
