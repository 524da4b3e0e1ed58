"""One file per wire format, both directions, used on both sides: a caller's API and a provider's are the same file."""

DEFAULT = "openai_chat"
"""The dialect of an error response if the path belongs to no dialect."""
