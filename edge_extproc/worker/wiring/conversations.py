"""Builds the store of conversations from the configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...config.schema import Config
from ...conversations.base import Bounds, RemovalListener, ignore_removal
from ...telemetry.conversation_metrics import ConversationMetrics

if TYPE_CHECKING:
    from ...conversations.base import ConversationStore


def build_conversations(config: Config, metrics: ConversationMetrics) -> ConversationStore | None:
    """None if the configuration has no store of conversations."""
    store = build_store(config, metrics.removed)
    if store is None:
        return None
    from ...conversations.memory import MemoryConversations
    from ...conversations.watched import WatchedConversations

    metrics.watch(lambda: store.down is not None, store if isinstance(store, MemoryConversations) else None)
    return WatchedConversations(store, metrics)


def build_store(config: Config, removed: RemovalListener = ignore_removal) -> ConversationStore | None:
    """The store itself, whose operations are not counted."""
    settings = config.conversations
    if settings is None:
        return None
    bounds = Bounds(settings.entries, settings.size, settings.ttl.total_seconds())
    url = config.conversations_url()
    if url is None or settings.key is None:
        from ...conversations.memory import MemoryConversations

        return MemoryConversations(bounds, settings.memory, time.time, removed)
    from ...codecs.sealing import BlockCipher
    from ...conversations.redis import RedisConversations

    keys = [key.reveal() for key in (settings.key, *settings.previous_keys)]
    return RedisConversations(url, settings.timeout.total_seconds(), bounds, BlockCipher(keys), removed)
