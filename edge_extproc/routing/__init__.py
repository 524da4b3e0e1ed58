"""Which providers may serve a call, and in what order."""

PARTS = frozenset({"affinity", "breaker", "planner", "shared"})
"""The files of this room that are no strategies."""
