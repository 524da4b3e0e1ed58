"""One exchange, and the framing, ids and content that the builders of all APIs share."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

CREATED = 1_760_000_000
"""The time at which every exchange was made, in seconds since 1970."""

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response. `case` is unique among the exchanges of a provider's API."""

    case: str
    provider: str
    api: str
    endpoint: str
    """Method and path, as sent."""
    host: str
    model: str
    request: Any
    """The JSON value of the request body, or the body itself as bytes."""
    response: bytes
    status: int = 200
    stream_format: str | None = None
    """sse, aws-eventstream or json-lines-or-array; None for a whole reply."""
    query: str = ""
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.provider}-{self.api}-{self.case}"

    @property
    def request_body(self) -> bytes:
        return self.request if isinstance(self.request, bytes) else compact(self.request)


MEDIA_TYPES = {
    None: "application/json",
    "sse": "text/event-stream; charset=utf-8",
    "aws-eventstream": "application/vnd.amazon.eventstream",
    "json-lines-or-array": "application/json; charset=UTF-8",
}


# --- ids and numbers: pseudo-random, and the same at every run


def _digest(seed: str) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(256)


def token(seed: str, length: int, alphabet: str = BASE62) -> str:
    return "".join(alphabet[each % len(alphabet)] for each in _digest(seed)[:length])


def hexes(seed: str, length: int) -> str:
    return token(seed, length, "0123456789abcdef")


def uuid(seed: str) -> str:
    digits = hexes(seed, 32)
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:]))


def sealed(seed: str, size: int = 96) -> str:
    """Base64 of bytes without meaning: a signature, or encrypted reasoning."""
    return base64.b64encode(_digest(seed)[:size]).decode()


# --- JSON and framing


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def pretty(value: Any) -> bytes:
    """As OpenAI and Google write whole replies."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def sse(values: Iterable[Any], *, end: bytes = b"", line: bytes = b"\n", named: bool = False) -> bytes:
    """Server-sent events. `named`: each event has the name that is its value's type. `end` follows the last one."""
    frames = []
    for value in values:
        name = b"event: " + value["type"].encode() + line if named else b""
        frames.append(name + b"data: " + compact(value) + line * 2)
    return b"".join(frames) + end


DONE = b"data: [DONE]\n\n"


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of `application/vnd.amazon.eventstream`: lengths and their CRC, headers, payload, CRC of all."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def aws_event(kind: str, value: Any) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, compact(value))


def pieces(text: str, size: int = 9) -> list[str]:
    """A text as the deltas of a stream. Cuts fall anywhere between two code points, within an emoji too."""
    return [text[at : at + size] for at in range(0, len(text), size)]


# --- content of the exchanges

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
"""A PNG of one red pixel."""

GIF = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
PDF = base64.b64encode(_PDF).decode()
"""A PDF of one empty page."""

WAV = base64.b64encode(
    b"RIFF"
    + struct.pack("<I", 44)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    + b"data"
    + struct.pack("<I", 8)
    + b"\x80" * 8
).decode()
"""One millisecond of silence."""

MP4 = base64.b64encode(struct.pack(">I", 20) + b"ftypisom" + struct.pack(">I", 512) + b"isom").decode()

PHOTO = "https://harbour.example/pictures/lighthouse.jpg"
LEAFLET = "https://harbour.example/leaflets/tides.pdf"

UNICODE = (
    "Grüße, 世界! Family: 👩‍👩‍👧‍👦, flag: 🏴󠁧󠁢󠁳󠁣󠁴󠁿, tone: 👍🏽, math: ∑ 𝛼². "
    'Line\u2028and\u2029paragraph. Ende: مرحبا "\\\\" \t/'
)
"""Letters of several scripts, emoji of several code points, and the separators that JSON leaves unescaped."""

TIDE_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "port": {"type": "string", "description": "Name of the port"},
        "date": {"type": "string", "description": "Day, as YYYY-MM-DD"},
    },
    "required": ["port", "date"],
    "additionalProperties": False,
}
FERRY_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "from": {"type": "string"},
        "to": {"type": "string"},
        "passengers": {"type": "integer", "minimum": 1},
        "cabin": {"type": "string", "enum": ["none", "inside", "outside"]},
    },
    "required": ["from", "to"],
}
LOAF_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "flour_grams": {"type": "integer"},
        "steps": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "flour_grams", "steps"],
    "additionalProperties": False,
}
LOAF = '{"name":"Rye loaf","flour_grams":500,"steps":["mix","rest","bake"]}'
TIDE_ARGUMENTS = '{"port":"Ostend","date":"2026-03-01"}'
FERRY_ARGUMENTS = '{"from":"Ostend","to":"Ramsgate","passengers":2,"cabin":"none"}'
TIDE_RESULT = "High water at 04:12 and 16:37, 4.6 m."
FERRY_RESULT = '{"departures":["08:30","17:45"]}'


def parsed(arguments: str) -> Json:
    value: Json = json.loads(arguments)
    return value


def merged(*values: Mapping[str, Any]) -> Json:
    return {key: each for value in values for key, each in value.items()}


def numbered(values: Sequence[Any]) -> list[Any]:
    """Events of the Responses API count themselves."""
    return [{**value, "sequence_number": at} for at, value in enumerate(values)]
