"""Finish reasons that hosts of any format use beside those of their format: a failure, or a reason in other words.

Sources: the documentation of DeepSeek and Zhipu, vLLM and SGLang ("abort"), OpenRouter ("error"). Hosts that serve
their models in the format of Anthropic too use the same words there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from ..model.fault import Fault, FaultKind
from ..model.reply import FinishReason

# The host failed on the way: what came before is no whole answer.
_FAILURES: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "insufficient_system_resource": ("overloaded", 503),
        "abort": ("api", 502),
        "aborted": ("api", 502),
        "cancelled": ("api", 502),
        "error": ("api", 502),
        "failed": ("api", 502),
        "internal_error": ("api", 502),
        "network_error": ("api", 502),
        "insufficient_quota": ("payment", 402),
        "rate_limit": ("rate_limit", 429),
        "rate_limit_exceeded": ("rate_limit", 429),
        "rate_limited": ("rate_limit", 429),
        "server_error": ("api", 502),
        "timeout": ("timeout", 504),
    }
)
# By the whole word, in lower case.
_WORDS: Mapping[str, FinishReason] = MappingProxyType(
    {
        "": "stop",
        "complete": "stop",
        "completed": "stop",
        "done": "stop",
        "end": "stop",
        "end_turn": "stop",
        "eos": "stop",
        "eos_token": "stop",
        "finish": "stop",
        "finished": "stop",
        "normal": "stop",
        "stop": "stop",
        "stop_sequence": "stop_sequence",
        "stop_token": "stop",
        "success": "stop",
        "model_context_window_exceeded": "context_window",
        "model_length": "context_window",
        "pause_turn": "pause",
        "recitation": "content_filter",  # Gemini
        "refusal": "refusal",
        "repetition": "length",  # vLLM cut the answer off, because it repeated itself
        "sensitive": "content_filter",  # Zhipu
    }
)
# By a part of the word. The first match counts.
_FAILED_PART = re.compile(
    r"error|fail|abort|cancel|timed?[_ -]?out|exception|unavailable|interrupt|disconnect|overload|crash"
    r"|rate[_ -]?limit|quota|insufficient|preempt|evict|terminated"
)
_USUAL = frozenset({"stop", "length", "tool_calls", "end_turn", "max_tokens", "tool_use", "stop_sequence"})
"""The words of most replies, of which none is a failure."""
_NOT_FAILED = frozenset({"error_limit", "error_toxic"})  # Cohere's words for a length and a filter
_PARTS: tuple[tuple[re.Pattern[str], FinishReason], ...] = (
    (re.compile(r"malformed"), "malformed"),
    (re.compile(r"length|max|limit|trunc|exceed|incomplete"), "length"),
    (re.compile(r"filter|safety|toxic|block|moderat|policy|guardrail|violat|sensitive"), "content_filter"),
    (re.compile(r"tool|function"), "tool_calls"),
)


def reason_of(finish: str) -> FinishReason:
    """The meaning of a finish reason that the format of the reply does not have. "other": nothing is known of it."""
    word = finish.lower()
    known = _WORDS.get(word)
    if known is not None:
        return known
    return next((reason for part, reason in _PARTS if part.search(word)), "other")


def failed_finish(finish: str | None) -> Fault | None:
    """The fault of a reply that ended for such a reason; None for any other reason."""
    if finish is None or finish in _USUAL:
        return None
    word = finish.lower()
    known = _FAILURES.get(word)
    if known is None and word not in _NOT_FAILED and _FAILED_PART.search(word):
        known = ("api", 502)
    if known is None:
        return None
    kind, status = known
    return Fault(
        status,
        kind,
        f"the provider stopped before the reply was complete: finish reason {finish!r}",
        "answer_broken_off",
    )
