"""The events of one HTTP request: each is one message of Envoy.

Header values are str: bytes that are not UTF-8 are mapped one to one to U+DC80…U+DCFF (surrogateescape), so nothing is
lost and a strict encoder refuses them. Names are in lower case and include pseudo-headers (":path").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar, Literal, TypeAlias

from ..model.content import Nothing
from ..model.frozen_dataclass import frozen_dataclass

Headers: TypeAlias = tuple[tuple[str, str], ...]
Attributes: TypeAlias = Mapping[str, object]
NOTHING: Attributes = Nothing()
Metadata: TypeAlias = Mapping[str, Mapping[str, object]]
NO_METADATA: Metadata = Nothing()


FilterBodyMode: TypeAlias = Literal["none", "streamed", "buffered", "buffered_partial", "full_duplex_streamed", "grpc"]


@frozen_dataclass
class BodyModes:
    """How the filter sends bodies."""

    request: FilterBodyMode
    response: FilterBodyMode


@frozen_dataclass
class RequestHeaders:
    headers: Headers
    end: bool
    """No body follows."""
    attributes: Attributes = field(default=NOTHING)
    """Envoy attributes by their CEL path: str, int, bool or float."""
    metadata: Metadata = field(default=NO_METADATA)
    """Dynamic metadata that Envoy forwards, by namespace."""
    modes: BodyModes | None = None
    """None: Envoy does not send them."""


@frozen_dataclass
class RequestBody:
    body: bytes
    end: bool


@frozen_dataclass
class RequestTrailers:
    end: ClassVar[bool] = True


@frozen_dataclass
class ResponseHeaders:
    headers: Headers
    end: bool
    attributes: Attributes = field(default=NOTHING)
    modes: BodyModes | None = None
    """Only if no request headers came on this stream."""


@frozen_dataclass
class ResponseBody:
    body: bytes
    end: bool


@frozen_dataclass
class ResponseTrailers:
    end: ClassVar[bool] = True


Event: TypeAlias = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
