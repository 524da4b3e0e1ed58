"""Providers: one file for each kind of host. Hosts that differ only in their address are rows of a table."""

PARTS = frozenset({"anthropic_betas", "credentials", "quirks"})
"""The files of this package that are not kinds of host."""
