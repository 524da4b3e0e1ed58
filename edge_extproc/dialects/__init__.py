"""One file per wire format, both directions, used on both sides: a caller's API and a provider's are the same file."""
