"""Reasoning effort levels as token budgets."""

from __future__ import annotations

# The effort for a budget of thinking tokens. 1024 is Anthropic's minimum; each level has twice as many as the previous
# one.
BUDGETS: tuple[tuple[int, str], ...] = (
    (16_384, "max"),
    (8_192, "xhigh"),
    (4_096, "high"),
    (2_048, "medium"),
    (0, "low"),
)
