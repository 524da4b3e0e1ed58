"""The nouns. Frozen data that every other room may hold; this room imports nothing of ours."""
