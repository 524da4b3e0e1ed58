"""Reasoning effort levels as token budgets."""

from __future__ import annotations

# The effort that a budget of thinking tokens stands for: 1024 is the least that Anthropic takes, and each level doubles
# the one before.
BUDGETS: tuple[tuple[int, str], ...] = (
    (16_384, "max"),
    (8_192, "xhigh"),
    (4_096, "high"),
    (2_048, "medium"),
    (0, "low"),
)
