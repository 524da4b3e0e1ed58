"""Routing: the order in which a call's candidates are tried, and which of them their circuit breakers exclude."""

PARTS = frozenset({"affinity", "breaker", "planner", "shared"})
"""The files of this package that are not strategies."""
