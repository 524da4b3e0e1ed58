"""One file per host: a dialect, an address, a credential, and quirks. Hosts that only differ in address are rows."""

PARTS = frozenset({"anthropic_betas", "credentials", "quirks"})
"""The files of this room that are no hosts: what several of them share."""
