"""Builds the store of conversations from the configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...config.schema import Config
from ...conversations.base import Bounds

if TYPE_CHECKING:
    from ...conversations.base import ConversationStore


def build_conversations(config: Config) -> ConversationStore | None:
    """None if the configuration has no store of conversations."""
    settings = config.conversations
    if settings is None:
        return None
    bounds = Bounds(settings.entries, settings.size, settings.ttl.total_seconds())
    url = config.conversations_url()
    if url is None or settings.key is None:
        from ...conversations.memory import MemoryConversations

        return MemoryConversations(bounds, settings.memory, time.time)
    from ...conversations.redis import RedisConversations
    from ...conversations.sealing import BlockCipher

    keys = [key.reveal() for key in (settings.key, *settings.previous_keys)]
    return RedisConversations(url, settings.timeout.total_seconds(), bounds, BlockCipher(keys))
