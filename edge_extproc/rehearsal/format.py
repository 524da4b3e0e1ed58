"""What a wire format is to the rehearsal server: it reads requests, writes answers, has its own words for errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .reading import Fields, Refused
from .script import Script

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"

# So many models are listed; any other name is answered as well.
MODELS = ("rehearsal", "rehearsal-slow", "rehearsal-503", "rehearsal-cut", "rehearsal-stall", "rehearsal-error")
MODELS_SINCE = 1_767_225_600


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer in server-sent events, and the one that says that it is complete."""

    events: Iterable[bytes]
    terminator: bytes


Answer = Whole | Stream


@dataclass(frozen=True, slots=True)
class Asking:
    """What a format knows of a request besides its body."""

    script: Script
    identity: str
    """24 hexadecimal digits that no other request has; every id in the answer is made of it."""
    now: int


class Format(Protocol):
    request_id_header: str
    request_id_prefix: str
    broken_event: bytes
    """An event that breaks off in the middle of its JSON."""

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request without the headers that every request must have."""

    def write_error(self, refused: Refused, request_id: str, /) -> bytes: ...

    def write_error_event(self, refused: Refused, request_id: str, /) -> bytes: ...

    def write_models(self, only: str | None) -> bytes:
        """All models, or the one named."""


class Operation(Protocol):
    def __call__(self, asked: Fields, asking: Asking, /) -> Answer: ...


def check_credential(credential: str | None) -> None:
    """Any credential will do, except none and `wrong`."""
    if not credential:
        raise Refused("no API key was sent", status=401, code="invalid_api_key")
    if credential == "wrong":
        raise Refused("this API key is wrong", status=401, code="invalid_api_key")


def bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
