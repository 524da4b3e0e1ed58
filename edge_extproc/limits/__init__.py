"""Rate limits and budgets: the rules of a caller, and the counters that all workers share."""
