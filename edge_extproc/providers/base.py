"""The port of a host.

A provider turns a body of its dialect into the request that its host takes. It does not know who called, which lane
the body came over, or Envoy. Its credential is a `Secret`: it goes into the headers returned here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..model.call import Operation


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """`path` includes the base path and the query. `headers` are what this host must see besides content-type and
    content-length; the full set, since headers of an earlier attempt are removed."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Provider(Protocol):
    name: str
    dialect: str
    authority: str
    """host[:port] as the host expects it in Host or :authority."""

    def request(self, operation: Operation, path: str, model: str, body: bytes, *, stream: bool) -> UpstreamRequest:
        """`path` is what the dialect says for this call, below the base URL."""
        ...
