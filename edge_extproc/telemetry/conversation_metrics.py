"""The metrics of the store of conversations, for one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..errors import EdgeError, TooLarge
from .plain import PlainCounter


class MemoryUse(Protocol):
    """What a store in memory has."""

    @property
    def records(self) -> int: ...
    @property
    def size(self) -> int: ...


class _State(Collector):
    """Read at each scrape."""

    def __init__(self) -> None:
        self.memory: MemoryUse | None = None
        self.is_down: Callable[[], bool] = lambda: False

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "edge_conversation_store_down", "Workers that cannot use the store of conversations.", int(self.is_down())
        )
        records = GaugeMetricFamily("edge_conversation_records", "Stored replies and conversations in workers' memory.")
        size = GaugeMetricFamily("edge_conversation_memory_bytes", "Bytes of the conversations in workers' memory.")
        if self.memory is not None:
            records.add_metric((), self.memory.records)
            size.add_metric((), self.memory.size)
        yield from (records, size)


class ConversationMetrics:
    """The `conversations.base.StoreListener` of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> PlainCounter:
            return PlainCounter(name, text, labels, registry)

        self._operations = counter(
            "edge_conversation_operations",
            "Records of the store of conversations that were read, written, extended, changed or deleted, by result: "
            "done, missed (there was none, or another request changed it), too_large, error.",
            "operation",
            "result",
        )
        self._bytes = counter(
            "edge_conversation_bytes", "Bytes that were read from the store of conversations, or written.", "operation"
        )
        self._removed = counter(
            "edge_conversation_removals",
            "Records that the store of conversations removed itself: expired, or for the room of others.",
            "reason",
        )
        self._not_stored = counter(
            "edge_conversation_unstored_replies",
            "Replies that could not be stored: too_large, or error. Their callers got them, and cannot continue them.",
            "reason",
        )
        self._state = _State()
        registry.register(self._state)

    def watch(self, is_down: Callable[[], bool], memory: MemoryUse | None) -> None:
        """`is_down`, and what is in memory, are read at each scrape."""
        self._state.is_down = is_down
        self._state.memory = memory

    def performed(self, operation: str, result: str, records: int, size: int) -> None:
        self._operations.add(operation, result, by=records)
        if size:
            self._bytes.add(operation, by=size)

    def removed(self, why: str, records: int) -> None:
        self._removed.add(why, by=records)

    def not_stored(self, error: EdgeError) -> None:
        self._not_stored.add("too_large" if isinstance(error, TooLarge) else "error")
