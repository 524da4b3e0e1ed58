"""A distribution of its own that adds a dialect, kinds of provider and credential, and a strategy to the gateway."""
