"""The operations besides chat: one module for each wire format of an operation."""
