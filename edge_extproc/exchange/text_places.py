"""Says what the texts of a chat's body are, by the paths of the chat's messages, parts and tools.

A text within a message or a part has the kind of the nearest one of them, except for names of roles, types and the
like. It knows no field of any format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ..guardrails.base import TextKind
from ..guardrails.body_texts import InlineMedia, TextPlace
from ..model.call import Chat
from ..model.content import (
    Audio,
    Document,
    Image,
    Inline,
    Message,
    Part,
    RedactedThinking,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..model.frozen_dataclass import frozen_dataclass

_OF_ROLE: dict[Role, TextKind] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool_result",
}
_STEP = re.compile(r"\.|\[")
# A single value may stand in place of a list of one, and a name may be spelled in two ways.
_UNLIKE = re.compile(r"\[0\]|_")
# The form of names that formats define, such as roles and types.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LONGEST_NAME = 32
_OF_TOOLS: frozenset[TextKind] = frozenset({"tool_call", "tool_result", "tool_definition"})
# A text of that length without any space, next to thinking or in place of a signature, is encrypted.
_ENCRYPTED = re.compile(r"[A-Za-z0-9+/=_-]{64,}")


@frozen_dataclass
class _MediaType:
    name: str


class ChatPlaces:
    """The places of one chat."""

    def __init__(self, chat: Chat) -> None:
        self._places: dict[str, TextPlace] = {}
        self._found: dict[str, tuple[TextPlace | None, str]] = {}
        """By path: the place and the path below it."""
        self._above: dict[str, tuple[TextPlace | None, int]] = {}
        """By path, as in `_places`: the place, and how many characters of the path lead to it."""
        self._own: dict[str, dict[str, TextKind | _MediaType | None]] = {}
        """By the path of a part: its texts of another kind, its media, and what should be encrypted (None). Equal
        texts elsewhere are not meant."""
        self._names: set[str] = set()
        """Texts of parts that look like names of the format."""
        for message in chat.messages:
            self._note_message(message)
        for tool in chat.tools:
            self._note(tool.path, "tool_definition")

    def place_of(self, path: str, text: str) -> TextPlace | InlineMedia | None:
        place, below = self._nearest(path)
        if place is None:
            return _OTHER
        if below and _NAME.fullmatch(text) and text not in self._names and not _is_tools_own(place, below):
            return _OTHER
        own = self._own.get(place.param or "")
        if own is not None:
            name = text[text.find(",") + 1 :] if text[:5].lower() == "data:" else text
            for spelling in (name, _plain_base64(name)):
                if spelling in own:
                    return _own_place(own[spelling], place, text)
        if place.kind == "thinking" and _ENCRYPTED.fullmatch(text):
            return None
        return place

    def _nearest(self, path: str) -> tuple[TextPlace | None, str]:
        """The place of the innermost part that contains the path, and the path below it."""
        found = self._found.get(path)
        if found is None:  # else it is the value of a key
            alike = _UNLIKE.sub("", path).lower()
            place, length = self._search(alike)
            found = self._found[path] = place, alike[length:]
        return found

    def _search(self, path: str) -> tuple[TextPlace | None, int]:
        """The texts of one object or list have all but their last step in common, so that is searched once."""
        place = self._places.get(path)
        if place is not None:
            return place, len(path)
        end = max(path.rfind("."), path.rfind("["))
        if end <= 0:
            return None, 0
        above = path[:end]
        found = self._above.get(above)
        if found is None:
            found = self._above[above] = self._search(above)
        return found

    def _note_message(self, message: Message) -> None:
        kind = _OF_ROLE[message.role]
        self._note(message.path, kind)
        self._note_parts(message.parts, kind)

    def _note_parts(self, parts: Iterable[Part], kind: TextKind) -> None:
        for part in parts:
            own = kind
            match part:
                case Thinking():
                    own = "thinking"
                    self._note_text(part.text)
                    self._note_own(part.path, part.text, "thinking")
                    if part.signature:
                        self._note_own(part.path, part.signature, None)
                case RedactedThinking():
                    own = "thinking"
                    self._note_own(part.path, part.data, None)
                case ToolCall():
                    own = "tool_call"
                    if part.signature:
                        self._note_own(part.path, part.signature, None)
                case ToolResult():
                    own = "tool_result"
                    self._note_parts(part.parts, "tool_result")
                case Image() | Document() | Audio():
                    self._note_source(part)
                case Text() | Refusal():
                    self._note_text(part.text)
                case _:
                    pass
            self._note(part.path, own, is_signed=isinstance(part, Thinking) and bool(part.signature))

    def _note_text(self, text: str) -> None:
        if len(text) <= _LONGEST_NAME:
            self._names.add(text)

    def _note_source(self, part: Image | Document | Audio) -> None:
        if isinstance(part, Document) and part.name:
            self._note_own(part.path, part.name, "file_name")
        match part.source:
            case Inline(media_type, data):
                self._note_own(part.path, _plain_base64(data), _MediaType(media_type))
            case Url(url):
                self._note_own(part.path, url, "url")
            case _:
                pass

    def _note_own(self, path: str, text: str, kind: TextKind | _MediaType | None) -> None:
        own = self._own.setdefault(path, {})
        if kind is not None or text not in own:  # a text that is equal to its signature is a text
            own[text] = kind

    def _note(self, path: str, kind: TextKind, *, is_signed: bool = False) -> None:
        if path:  # that of a message may be that of its only part, which is noted after it
            self._places[_UNLIKE.sub("", path).lower()] = TextPlace(kind, path, is_signed)


_OTHER = TextPlace("other")


def _plain_base64(text: str) -> str:
    """One spelling for base64 of URLs and the usual one. A reader may have changed it."""
    return text.translate(_OF_URLS).rstrip("=")


_OF_URLS = str.maketrans("-_", "+/")


def _own_place(found: TextKind | _MediaType | None, place: TextPlace, text: str) -> TextPlace | InlineMedia | None:
    if isinstance(found, _MediaType):
        return InlineMedia(found.name, place)
    if found is not None:
        return replace(place, kind=found)
    # The caller may have written anything in place of a signature. No provider has signed that.
    return None if _ENCRYPTED.fullmatch(text) else replace(place, is_signed=False)


def _is_tools_own(place: TextPlace, below: str) -> bool:
    """Whether it is within the arguments, the result or the schema of a tool, which have names of their own."""
    return place.kind in _OF_TOOLS and _STEP.search(below, 1) is not None
