"""The section `prompt_cache`: why a provider read less of a prompt from its prompt cache than it could have."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from .part import ConfigSection, one_of
from .quantities import PositiveDuration
from .routing import HeaderName


class PromptCacheConfig(ConfigSection):
    """Explains it for each turn of a conversation, by keyed hashes of the segments of its prompt."""

    explain: Annotated[Literal["asked", "always", "never"], one_of("asked", "always", "never")] = "asked"
    """asked: requests with the header x-edge-explain: prompt-cache. always: all chats; it needs a read of the store of
    records before each."""
    keep: PositiveDuration = timedelta(hours=1)
    """How long the hashes of a conversation are kept after its last turn."""
    session_headers: tuple[HeaderName, ...] = ("x-edge-session", "x-claude-code-session-id")
    """Request headers in which callers name their session. The ledger has the value of the first that is there, so none
    of them may be a credential."""
