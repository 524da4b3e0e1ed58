"""Rules and detectors for tests of the guardrails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_extproc.guardrails.base import Finding, Rule, TextKind
from edge_extproc.guardrails.masking import CallMasker, PlaceholderKey
from edge_extproc.guardrails.reply_guard import RuledReply
from edge_extproc.model.reply import ReplyEvent

KEY = PlaceholderKey("a pepper for tests alone")
EVERY_KIND: frozenset[TextKind] = frozenset(
    {"system", "user", "assistant", "thinking", "tool_definition", "tool_call", "tool_result", "file_name", "other"}
)


@dataclass
class Pattern:
    """A Detector of one pattern."""

    pattern: str
    longest: int = 24
    label: str = "word"

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        return [Finding(match.start(), match.end(), self.label) for match in re.finditer(self.pattern, text)]


def rule(pattern: str, action: Any = "block", longest: int = 24, **more: Any) -> Rule:
    label = more.pop("label", "word")
    return Rule(
        **{
            "name": f"{action}-{pattern}",
            "directions": frozenset({"reply"}),
            "kinds": EVERY_KIND,
            "action": action,
            "mode": "enforce",
            "detector": Pattern(pattern, longest, label),
            **more,
        }
    )


def masker(*values: str, tenant: str = "acme", label: str = "email") -> tuple[CallMasker, list[str]]:
    """The masker of a call with these values, and their placeholders."""
    call = KEY.masker(tenant)
    return call, [call.placeholder(value, label) for value in values]


def guard(*rules: Rule, call: CallMasker | None = None, **more: Any) -> RuledReply:
    call = call or KEY.masker("acme")
    return RuledReply(rules, call, call.restorer, **more)


def passed(checker: RuledReply, events: Iterable[ReplyEvent]) -> list[ReplyEvent]:
    return [out for event in events for out in checker.checked(event)]
