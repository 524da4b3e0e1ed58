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
    bridges_responses: bool = False
    """Sessions of the Responses API go to the agent's own server, which sends each response as a request."""
    most: int = 1_000
    """The most sessions of one tenant in one worker."""


NO_SOCKETS = SocketSettings()


class OpenSockets:
    """Counts the sessions of each tenant in this worker, with those whose upgrade is not complete."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, int] = {}

    def add(self, tenant: str, most: int) -> bool:
        """False: the tenant has the most sessions that are permitted."""
        count = self._by_tenant.get(tenant, 0)
        if count >= most:
            return False
        self._by_tenant[tenant] = count + 1
        return True

    def remove(self, tenant: str) -> None:
        count = self._by_tenant.pop(tenant) - 1
        if count:
            self._by_tenant[tenant] = count


class _Unwatched:
    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def messages(self, count: int, *, from_client: bool) -> None: ...


UNWATCHED: SocketWatch = _Unwatched()
"""Counts nothing."""
