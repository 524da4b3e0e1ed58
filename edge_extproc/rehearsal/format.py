"""The interfaces of the rehearsal server's wire formats and operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .reading import Fields, Refused
from .script import Script

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"

# The listed models. Any other name is accepted as well.
MODELS = ("rehearsal", "rehearsal-slow", "rehearsal-503", "rehearsal-cut", "rehearsal-stall", "rehearsal-error")
MODELS_SINCE = 1_767_225_600


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete reply."""

    body: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Stream:
    """A reply as server-sent events, and the final event."""

    events: Iterable[bytes]
    terminator: bytes


Answer = Whole | Stream


@dataclass(frozen=True, slots=True)
class RequestMeta:
    """The data of a request besides its body."""

    script: Script
    identity: str
    """24 hexadecimal digits, unique to the request. All ids in the reply contain them."""
    now: int


class Format(Protocol):
    request_id_header: str
    request_id_prefix: str
    broken_event: bytes
    """An event whose JSON is cut off."""

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises Refused for a request without the required headers."""

    def write_error(self, refused: Refused, request_id: str, /) -> bytes: ...

    def write_error_event(self, refused: Refused, request_id: str, /) -> bytes: ...

    def write_models(self, only: str | None) -> bytes:
        """The list of all models, or the one named `only`."""


class Operation(Protocol):
    def __call__(self, body: Fields, meta: RequestMeta, /) -> Answer: ...


def check_credential(credential: str | None) -> None:
    """Accepts any credential except an empty one and `wrong`. Raises Refused."""
    if not credential:
        raise Refused("no API key was sent", status=401, code="invalid_api_key")
    if credential == "wrong":
        raise Refused("this API key is wrong", status=401, code="invalid_api_key")


def bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
