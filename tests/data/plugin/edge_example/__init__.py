"""A distribution of its own that adds a dialect, a kind of provider and a routing strategy to the gateway."""
