"""What the gateway permits of WebSockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..model.content import Nothing

NOTHING: Mapping[str, str] = Nothing()


class SocketWatch(Protocol):
    """Counts sessions and their messages."""

    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def messages(self, count: int, *, from_client: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class SocketSettings:
    clusters: Mapping[str, str] = NOTHING
    """The providers that get sessions, in the order of the configuration, and the Envoy cluster of each for them."""
    origins: frozenset[str] = frozenset()
    """The web pages that may open sessions from a browser. "*": any."""


NO_SOCKETS = SocketSettings()


class _Unwatched:
    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def messages(self, count: int, *, from_client: bool) -> None: ...


UNWATCHED: SocketWatch = _Unwatched()
"""Counts nothing."""
