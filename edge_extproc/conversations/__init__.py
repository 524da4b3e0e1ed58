"""The store of conversations: replies and their inputs, kept for callers that refer to them by an id."""
