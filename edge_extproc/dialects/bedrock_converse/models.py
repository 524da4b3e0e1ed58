"""The model families on Bedrock and what Converse passes to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

# --- capabilities and field names of each model family


@dataclass(frozen=True, slots=True)
class Family:
    """The capabilities of one maker's models, and its names of fields that Converse lacks."""

    top_k: tuple[str, ...] = ("top_k",)
    """The path in additionalModelRequestFields. Empty: there is none."""
    reasoning: Literal["claude", "nova", "effort", "config", "none"] = "config"
    caches: frozenset[str] = frozenset()
    """Where a cachePoint may be: the user guide's page on prompt caching. Bedrock refuses it elsewhere (`You invoked an
    unsupported model or your request did not allow prompt caching`)."""

    known: bool = True
    """Whether the model's id names its family."""
    refuses_reasoning: bool = False
    """Whether it refuses reasoning in the history, its own too."""
    takes_status: bool = False
    """Whether a toolResult may have a status. The API reference on ToolResultBlock allows it for Amazon Nova and Claude
    only."""

    @property
    def refuses_marks(self) -> bool:
        """Whether it surely caches nothing, so that a caller's own cachePoint is removed. An account may have a preview
        of caching for a Claude, and the ARN of an unknown family may be that of a model that caches."""
        return self.known and not self.caches and self.reasoning != "claude"

    @property
    def takes_reasoning(self) -> bool:
        """Whether the history may have reasoning."""
        return self.reasoning != "none" and not self.refuses_reasoning


# By a word in the model's id or ARN. The fields are from memory of the parameter pages in the Bedrock user guide. The
# page on prompt caching names Claude 3.5 Haiku, 3.7 Sonnet and Nova, and 3.5 Sonnet v2 for preview accounts only.
# Caching of newer Claudes: NousResearch/hermes-agent#11970. That Nova does not cache tools is an assumption; it only
# costs a saving.
_OLD_CLAUDE = Family(reasoning="claude", takes_status=True)
_NOVA = Family(("inferenceConfig", "topK"), "none", frozenset({"system", "messages"}), takes_status=True)
_FAMILIES: tuple[tuple[str, Family], ...] = (
    ("claude-3-5-sonnet", _OLD_CLAUDE),
    *((f"claude-3-{name}", _OLD_CLAUDE) for name in ("haiku", "sonnet", "opus")),
    *((f"claude-{name}", _OLD_CLAUDE) for name in ("v2", "instant")),
    ("claude", replace(_OLD_CLAUDE, caches=frozenset({"system", "messages", "tools"}))),
    # Only the second generation reasons; the first one refuses its settings (UKGovernmentBEIS/inspect_ai#5301).
    ("nova-2", replace(_NOVA, reasoning="nova")),
    ("nova", _NOVA),
    ("titan", Family((), "none")),
    ("llama", Family((), "none")),
    ("jamba", Family((), "none")),
    ("mistral", Family(reasoning="none")),
    ("cohere", Family(("k",), "none")),
    ("gpt-oss", Family((), "effort")),
    # `User messages cannot contain reasoning content` (langchain-ai/langchain-aws#401, aws-samples/bedrock-chat#851).
    ("deepseek", Family((), refuses_reasoning=True)),
)
_UNKNOWN = Family(known=False)


def family_of(model: str) -> Family:
    """The family of a model id. The ARN of an inference profile may not name its model: it gets the row for unknown
    models."""
    name = model.lower()
    return next((family for word, family in _FAMILIES if word in name), _UNKNOWN)


# Other models have three levels.
LEVELS: Mapping[str, str] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
