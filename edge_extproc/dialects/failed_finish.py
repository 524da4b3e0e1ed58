"""Finish reasons that hosts of any format use beside those of their format: a failure, or a reason in other words.

Sources: the documentation of DeepSeek and Zhipu, vLLM and SGLang ("abort"), OpenRouter ("error"). Hosts that serve
their models in the format of Anthropic too use the same words there.
"""

from __future__ import annotations

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
        "server_error": ("api", 502),
        "timeout": ("timeout", 504),
    }
)
OTHER_WORDS: Mapping[str, FinishReason] = MappingProxyType(
    {
        "content_filter": "content_filter",
        "length": "length",
        "model_context_window_exceeded": "context_window",
        "model_length": "context_window",
        "repetition": "length",  # vLLM cut the answer off, because it repeated itself
        "sensitive": "content_filter",  # Zhipu
    }
)


def failed_finish(finish: str | None) -> Fault | None:
    """The fault of an answer that ended in such a reason; None for any other reason."""
    known = _FAILURES.get(finish.lower()) if finish is not None else None
    if known is None:
        return None
    kind, status = known
    return Fault(
        status,
        kind,
        f"the provider stopped before the reply was complete: finish reason {finish!r}",
        "answer_broken_off",
    )
