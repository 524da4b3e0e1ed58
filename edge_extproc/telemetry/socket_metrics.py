"""The metrics of WebSockets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from . import plain


class SocketMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = plain.PlainGauge("edge_open_sockets", "WebSocket sessions in progress.", registry)
        self._messages = plain.PlainCounter(
            "edge_socket_messages",
            "Messages of WebSocket sessions, with control frames, by their sender.",
            ("sender",),
            registry,
        )
        for sender in ("caller", "provider"):
            self._messages.add(sender, by=0)

    def opened(self) -> None:
        self._open.value += 1

    def closed(self) -> None:
        self._open.value -= 1

    def messages(self, count: int, *, from_client: bool) -> None:
        if count:
            self._messages.add("caller" if from_client else "provider", by=count)
