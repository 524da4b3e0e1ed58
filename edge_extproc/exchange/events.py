"""What Envoy tells us about one HTTP request, one message at a time.

Header values are str: bytes that are not UTF-8 were mapped one to one to U+DC80…U+DCFF (surrogateescape), so that
nothing is lost and a strict encoder refuses them. Names are in lower case; pseudo-headers (":path") are among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model.content import Nothing

Headers: TypeAlias = tuple[tuple[str, str], ...]
Attributes: TypeAlias = Mapping[str, object]
NOTHING: Attributes = Nothing()


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    headers: Headers
    end: bool
    """No body follows."""
    attributes: Attributes = field(default=NOTHING)
    """Envoy attributes by their CEL path: str, int, bool or float."""
    metadata: Mapping[str, Mapping[str, object]] = field(default=Nothing())
    """Dynamic metadata that Envoy forwards, by namespace."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    body: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    pass


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    headers: Headers
    end: bool
    attributes: Attributes = field(default=NOTHING)


@dataclass(frozen=True, slots=True)
class ResponseBody:
    body: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    pass


Event: TypeAlias = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
