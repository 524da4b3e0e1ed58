"""Credentials for providers: one file a kind. What must be fetched is fetched off the path of requests."""

PARTS = frozenset({"api_key", "files", "refresh", "sigv4"})
"""The files of this room that are no kinds of credential: what several of them share."""
