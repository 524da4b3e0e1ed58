"""The operations besides chat: one file for each wire format of each operation."""

PARTS = frozenset({"metering"})
