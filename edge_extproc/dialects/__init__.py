"""One package for each wire format. A package is used for callers and for providers of its format."""

DEFAULT = "openai_chat"
"""The dialect of an error response if the path belongs to no dialect."""
