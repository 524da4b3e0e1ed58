"""What is said in a conversation, whoever's wire format it came in.

A part keeps in `extras` what its dialect's reader did not understand; only a writer of the same dialect
puts it back, every other writer names it as dropped. What has no meaning outside its own dialect is an
`Opaque` part. `path` is where a reader found a part or a message in the caller's body, as `messages[2].content[0]`;
it is "" where nobody read it, and no two things differ by it. JSON values here are what a JSON decoder gives: dict,
list, str, int, float, bool, None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Literal, Never, TypeAlias

from .noun import noun

Json: TypeAlias = object
"""A decoded JSON value."""

Extras: TypeAlias = Mapping[str, Json]
"""Fields of the source dialect that have no place in our own nouns, by their wire name."""


class Nothing(Mapping[str, Never]):
    """The empty mapping. Hashable, as a default of a dataclass must be; MappingProxyType is not before Python 3.12."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Never:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


NO_EXTRAS: Extras = Nothing()

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


@noun
class CacheMark:
    """The caller asks the provider to cache the prompt up to and including the marked part."""

    ttl: str | None = None
    """How long, as the provider spells it ("5m", "1h"); None is the provider's default."""
    path: str = field(default="", compare=False, repr=False)


# --- where the bytes of an image, a document or a sound are


@noun
class Inline:
    """The bytes themselves, base64 as they came. `media_type` is a MIME type such as image/png."""

    media_type: str
    data: str


@noun
class Url:
    """Somewhere the provider can fetch. The gateway never does."""

    url: str
    media_type: str | None = None


@noun
class FileRef:
    """A file uploaded to one provider before; its id means nothing to another."""

    id: str


Source: TypeAlias = Inline | Url | FileRef


# --- parts


@noun
class Text:
    text: str
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Image:
    source: Source
    detail: str | None = None
    """OpenAI's hint: auto, low or high."""
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Document:
    """A PDF or a text file. `Inline.media_type` says which."""

    source: Source
    name: str | None = None
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Audio:
    source: Source
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Thinking:
    """What the model thought. `text` may be empty where only a signature was given; both must go back as they came."""

    text: str
    signature: str | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class RedactedThinking:
    """Thinking that only its provider can read: an opaque string (base64)."""

    data: str
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Refusal:
    text: str
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class ToolCall:
    id: str
    name: str
    arguments: str
    """JSON text exactly as the model wrote it; may be empty (no arguments) or, from a model, not valid JSON."""
    cache: CacheMark | None = None
    signature: str | None = None
    """Gemini's thought signature, which must come back with the call."""
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class ToolResult:
    call_id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@noun
class Opaque:
    """A part (or a tool) that only `dialect` knows. `value` is its whole JSON value, `kind` its type there."""

    dialect: str
    kind: str
    value: Json
    path: str = field(default="", compare=False, repr=False)


Part: TypeAlias = (
    Text | Image | Document | Audio | Thinking | RedactedThinking | Refusal | ToolCall | ToolResult | Opaque
)


@noun
class Message:
    """One turn. A `tool` message holds ToolResults only; a `user` message may mix them with other parts."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extras: Extras = field(default=NO_EXTRAS)
    path: str = field(default="", compare=False, repr=False)
