"""The messages of a conversation and their parts, independent of the wire format.

`extras` of a part has the fields that the reader of its dialect did not know. A writer of the same dialect writes them
back; any other writer reports them as dropped. A part without a meaning outside its dialect is an `Opaque` part. `path`
is where a reader found a part or a message in the caller's body, such as `messages[2].content[0]`; it is "" for parts
that no reader made, and it is not compared. JSON values are those of a JSON decoder: dict, list, str, int, float, bool,
None.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from dataclasses import field
from itertools import chain
from operator import attrgetter
from typing import Literal, Never, TypeAlias, TypeVar

from .frozen_dataclass import frozen_dataclass

D = TypeVar("D")
Json: TypeAlias = object
"""A decoded JSON value."""

Extras: TypeAlias = Mapping[str, Json]
"""Fields of the source dialect that have no place in the types of this package, by their name on the wire."""


class Nothing(Mapping[str, Never]):
    """The empty mapping. It is hashable because it is a dataclass default; MappingProxyType is not before Python
    3.12."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Never:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    # Mapping's own of these call the methods above, and most parts of most requests have no extras.

    def __contains__(self, key: object) -> bool:
        return False

    def get(self, _: str, default: D | None = None, /) -> D | None:  # type: ignore[override]  # no key is there
        return default

    def items(self) -> ItemsView[str, Never]:
        return _NO_ITEMS

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


_NO_ITEMS = dict[str, Never]().items()

NO_EXTRAS: Extras = Nothing()

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


@frozen_dataclass
class CacheMark:
    """A request to the provider to cache the prompt up to and including the marked part."""

    ttl: str | None = None
    """The duration in the provider's notation ("5m", "1h"); None is the provider's default."""
    path: str = field(default="", compare=False, repr=False)


# --- where the bytes of an image, a document or audio are


@frozen_dataclass
class Inline:
    """The bytes in the request, as unchanged base64. `media_type` is a MIME type such as image/png."""

    media_type: str
    data: str


@frozen_dataclass
class Url:
    """A URL that the provider fetches. The gateway never does."""

    url: str
    media_type: str | None = None


@frozen_dataclass
class FileRef:
    """A file that was uploaded to one provider. Its id is unknown to other providers."""

    id: str


Source: TypeAlias = Inline | Url | FileRef


# --- parts


@frozen_dataclass
class Text:
    text: str
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Image:
    source: Source
    detail: str | None = None
    """OpenAI's resolution hint: auto, low or high."""
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Document:
    """A PDF or a text file. `Inline.media_type` says which."""

    source: Source
    name: str | None = None
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Audio:
    source: Source
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Thinking:
    """Reasoning of the model. `text` may be empty if there is only a signature. Both must be sent back unchanged."""

    text: str
    signature: str | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class RedactedThinking:
    """Encrypted reasoning that only its provider can read: an opaque base64 string."""

    data: str
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Refusal:
    text: str
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class ToolCall:
    id: str
    name: str
    arguments: str
    """The JSON text exactly as the model wrote it. It may be empty (no arguments) or invalid JSON."""
    cache: CacheMark | None = None
    signature: str | None = None
    """Gemini's thought signature, which must be sent back with the call."""
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class CustomCall(ToolCall):
    """A call of a `CustomTool`. `arguments` holds the input as JSON: an object with one string, `input`."""


@frozen_dataclass
class ToolResult:
    call_id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)


@frozen_dataclass
class Opaque:
    """A part or tool that only `dialect` has. `value`: its whole JSON value. `kind`: its type in the dialect."""

    dialect: str
    kind: str
    value: Json
    path: str = field(default="", compare=False, repr=False)
    media_type: str = field(default="", compare=False, repr=False, kw_only=True)
    """Of a file that the part holds, such as a video. Empty: it holds none."""
    summary: str = field(default="", compare=False, repr=False, kw_only=True)
    """The text that replaces all earlier messages. Empty: the part is no summary of them."""
    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False, kw_only=True)
    """What other formats get in its place. Empty: they have nothing like it."""


Part: TypeAlias = (
    Text | Image | Document | Audio | Thinking | RedactedThinking | Refusal | ToolCall | ToolResult | Opaque
)


@frozen_dataclass
class Message:
    """One turn. A `tool` message holds ToolResults only; a `user` message may mix them with other parts."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extras: Extras = field(default=NO_EXTRAS)
    path: str = field(default="", compare=False, repr=False)


def plain_text(message: Message) -> str | None:
    """The text of a message that is one text and nothing else: no name, no cache mark, no extras. None for any other.

    Most messages of a long history are so. A writer encodes them without the steps that the other parts need.
    """
    parts = message.parts
    if len(parts) != 1 or message.name is not None or message.extras is not NO_EXTRAS:
        return None
    part = parts[0]
    # Dialects have subclasses of Text, which their own writers encode in another way.
    return part.text if type(part) is Text and part.cache is None and part.extras is NO_EXTRAS else None


def has_part(messages: Iterable[Message], kind: type[Part]) -> bool:
    """Whether any message has a part of this type."""
    return is_among(kind, kinds_of(messages))


def kinds_of(messages: Iterable[Message]) -> set[type[Part]]:
    """The types of all parts. Long histories have few, so that each type is checked once."""
    return set(map(type, chain.from_iterable(map(_PARTS, messages))))


def is_among(kind: type[Part], kinds: Iterable[type[Part]]) -> bool:
    """Whether `kinds` has this type or a subclass of it."""
    # A list, because most calls have one type: a generator costs more than it saves.
    return bool([each for each in kinds if issubclass(each, kind)])


_PARTS: Callable[[Message], tuple[Part, ...]] = attrgetter("parts")
