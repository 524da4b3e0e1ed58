"""The headers of one gRPC call: required headers, refusals, and the deadline."""

from __future__ import annotations

from collections.abc import Mapping

from .frames import PROTOCOL_ERROR, StreamFault
from .header_blocks import Fields

_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_A_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class RequestHead:
    """The decoded headers of a request. Raises StreamFault if they are malformed (RFC 9113, section 8.1.1)."""

    __slots__ = ("http_status", "metadata", "path", "timeout")

    def __init__(self, fields: Fields) -> None:
        metadata: dict[str, str] = {}
        pseudo: dict[bytes, bytes] = {}
        regular = False
        for name, value in fields:
            if name[:1] == b":":
                if regular or name in pseudo or name not in _PSEUDO:
                    raise StreamFault(PROTOCOL_ERROR)
                pseudo[name] = value
                continue
            regular = True
            if name != name.lower() or name in _OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
                raise StreamFault(PROTOCOL_ERROR)
            if not name.endswith(b"-bin"):
                metadata[name.decode("latin-1")] = value.decode("latin-1")
        if not (pseudo.get(b":path") and b":method" in pseudo and b":scheme" in pseudo):
            raise StreamFault(PROTOCOL_ERROR)
        self.path = pseudo[b":path"].decode("latin-1")
        self.metadata: Mapping[str, str] = metadata
        self.http_status: bytes | None = None
        if pseudo[b":method"] != b"POST":
            self.http_status = b"405"
        elif not metadata.get("content-type", "").startswith("application/grpc"):
            self.http_status = b"415"
        self.timeout = read_timeout(metadata["grpc-timeout"]) if "grpc-timeout" in metadata else None


_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def read_timeout(text: str) -> float:
    """The seconds of a `grpc-timeout`. Raises StreamFault."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit() and len(digits) <= 8):
        raise StreamFault(PROTOCOL_ERROR)
    return int(digits) * _UNITS[unit]
