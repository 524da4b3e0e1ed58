"""How much a caller may use: counters that all workers share, and the rules that read them."""
