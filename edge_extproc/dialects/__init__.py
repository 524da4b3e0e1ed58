"""One file per wire format, both directions, used on both sides: a caller's API and a provider's are the same file."""

PARTS = frozenset({"carried", "claude", "dropping", "history", "pictures", "turns"})
"""The files of this package that are not dialects."""

DEFAULT = "openai_chat"
"""The dialect of an error response if the path belongs to no dialect."""
