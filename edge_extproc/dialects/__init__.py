"""One file per wire format, both directions, used on both sides: a caller's API and a provider's are the same file."""

PARTS = frozenset({"carried", "claude", "crossing", "custom_tools", "dropping", "history", "pictures", "turns"})
"""The files of this room that are no dialects: what several of them share."""

DEFAULT = "openai_chat"
"""The dialect of an error response if the path belongs to no dialect."""
