"""The terms of guardrail rules, and what a rule did to a call or a reply. It contains no text of either."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .frozen_dataclass import frozen_dataclass

Direction: TypeAlias = Literal["request", "reply"]
Action: TypeAlias = Literal["block", "mask", "flag", "route"]
Mode: TypeAlias = Literal["enforce", "shadow"]


TextKind: TypeAlias = Literal[
    "system",
    "user",
    "assistant",
    "thinking",
    "tool_definition",
    "tool_call",
    "tool_result",
    "file_name",
    "url",
    "other",
]
"""What a text is in its call or reply. `assistant`: a text of the model, in a history or in a reply. `other`: any other
string of the body, such as a field that only one wire format has."""


@frozen_dataclass
class RuleHit:
    """What a rule did to one call or reply: for logs, metrics, traces and the ledger."""

    rule: str
    label: str
    action: Action
    mode: Mode
    direction: Direction
    count: int
