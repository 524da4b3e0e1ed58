"""The model families on Bedrock and what Converse passes to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# --- what the models can be asked, in whose words


@dataclass(frozen=True, slots=True)
class Family:
    """The capabilities of one maker's models, and its names of fields that Converse lacks."""

    top_k: tuple[str, ...] = ("top_k",)
    """The path in additionalModelRequestFields. Empty: there is none."""
    reasoning: Literal["claude", "nova", "effort", "config", "none"] = "config"
    caches: frozenset[str] = frozenset()
    """Where a cachePoint may stand: the user guide's page on prompt caching. Elsewhere Bedrock refuses the request
    (`You invoked an unsupported model or your request did not allow prompt caching`)."""

    @property
    def takes_status(self) -> bool:
        """Whether a toolResult may say that the tool failed: the API reference on ToolResultBlock names Amazon Nova and
        Claude alone."""
        return self.reasoning in ("claude", "nova")


# By a word in the model's id or ARN. From memory of the makers' parameter pages in the Bedrock user guide, but caching:
# its page on prompt caching names Claude 3.5 Haiku, 3.7 Sonnet and Nova, and 3.5 Sonnet v2 for accounts of the preview
# alone. That newer Claudes cache is in NousResearch/hermes-agent#11970. That Nova does not in tools is assumed: it
# costs a saving.
_FAMILIES: tuple[tuple[str, Family], ...] = (
    ("claude-3-5-sonnet", Family(reasoning="claude")),
    *((f"claude-3-{name}", Family(reasoning="claude")) for name in ("haiku", "sonnet", "opus")),
    *((f"claude-{name}", Family(reasoning="claude")) for name in ("v2", "instant")),
    ("claude", Family(reasoning="claude", caches=frozenset({"system", "messages", "tools"}))),
    ("nova", Family(("inferenceConfig", "topK"), "nova", frozenset({"system", "messages"}))),
    ("titan", Family((), "none")),
    ("llama", Family((), "none")),
    ("jamba", Family((), "none")),
    ("mistral", Family(reasoning="none")),
    ("cohere", Family(("k",), "none")),
    ("gpt-oss", Family((), "effort")),
    ("deepseek", Family(())),
)
_UNKNOWN = Family()


def family_of(model: str) -> Family:
    """Of a model's id. The ARN of an inference profile need not name its model: it is taken for any."""
    name = model.lower()
    return next((family for word, family in _FAMILIES if word in name), _UNKNOWN)


# Others know three levels.
LEVELS: Mapping[str, str] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
