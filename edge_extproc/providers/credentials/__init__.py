"""Credentials for providers: one file for each kind. Tokens and temporary keys are fetched in the background."""

PARTS = frozenset({"api_key", "files", "refresh", "sigv4"})
"""The files of this package that are not kinds of credential."""
