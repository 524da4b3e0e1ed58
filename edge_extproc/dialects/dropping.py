"""Collects the fields that a chat loses in another dialect, by their paths in the caller's body."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..codecs.json_values import JsonObject, object_in
from ..errors import Unsupported
from ..model.call import Chat, Reasoning, Tool
from ..model.content import Audio, CacheMark, Document, Extras, Image, Inline, Message, Opaque, Part, Text
from ..model.reply import Reply
from .base import Dialect
from .citations import citations_in
from .scalars import Scalars
from .schemas import uncombined


class DropList:
    """The dropped fields of a chat that is being written. Each entry of `dropped` is a path in the caller's body."""

    def __init__(self, chat: Chat) -> None:
        self.spelling = chat.spelling
        self.dropped: set[str] = set(chat.lost)

    def _drop_if(self, path: str, condition: object) -> None:
        if condition:
            self.dropped.add(path)

    def _drop_field(self, name: str, condition: object) -> None:
        """Drops a field of the Chat. `name`: the Chat's name of the field."""
        if condition:
            self.dropped.add(self.spelling.field(name))

    def _drop_member(self, path: str, name: str, condition: object) -> None:
        """A field of the part or tool at `path`, by the name that model/ has for it."""
        if condition:
            self.dropped.add(self._member(path, name))

    def _uncombined(self, schema: JsonObject, path: str) -> JsonObject:
        """The schema at `path` for a provider that refuses `anyOf`, `oneOf` and `allOf` at the root of the schema of a
        tool's input."""
        flat, lost = uncombined(schema, path)
        self.dropped.update(lost)
        return flat

    def _drop_name(self, part: Document, path: str, condition: object) -> None:
        """The name of the document at `path`. Some callers write it in one place for bytes and in another for a URI."""
        linked = self.spelling.members.get("linked_document_name")
        if linked is not None and not isinstance(part.source, Inline):
            self._drop_member(path, "linked_document_name", condition)
        else:
            self._drop_member(path, "document_name", condition)

    def _drop_mark(self, mark: CacheMark | None, path: str) -> None:
        """The cache mark of the part or tool at `path`."""
        if mark is not None:
            self.dropped.add(mark.path or f"{path}.cache_control")

    def _drop_extras(self, extras: Extras, path: str) -> None:
        """Drops all fields with a value. A None is only a note of the reader."""
        for key, value in extras.items():
            if value is None:
                continue
            if key == self.spelling.outer and isinstance(value, dict):
                self._drop_extras(value, path.rpartition(".content")[0])
            else:
                self.dropped.add(f"{path}.{key}" if path else key)

    def _write_scalars(self, scalars: Scalars, chat: Chat, block: JsonObject) -> None:
        """Adds the chat's scalars to the object, and drops the values that the format does not have."""
        for field, name, write in scalars.written:
            value = getattr(chat, field)
            if value is None:
                continue
            if write is not None:
                value = write(value)
                if value is None:
                    self._drop_field(field, True)
                    continue
            block[name] = value

    def _member(self, path: str, name: str) -> str:
        return f"{path}.{self.spelling.member(name)}"

    def _reasoning_path(self, reasoning: Reasoning) -> str:
        """The caller's path of the thinking setting: the switch or, without one, the effort."""
        is_effort = reasoning.effort and reasoning.mode is None
        return self.spelling.field("reasoning.effort" if is_effort else "reasoning")

    def _refuse_essential(self, chat: Chat, title: str, mapped: Collection[str] = ()) -> None:
        """Raises Unsupported for an extra that is essential for the reply. `mapped`: extras that this format has in
        other fields."""
        for name, usual in self.spelling.essential.items():
            value = chat.extras.get(name)
            if value is not None and value != usual and name not in mapped:
                raise Unsupported(name, title)


def messages_of(chat: Chat) -> Iterator[tuple[str, Message]]:
    """Each message, and its path in the caller's body."""
    for number, message in enumerate(chat.messages):
        yield message.path or f"messages[{number}]", message


def parts_of(parts: Sequence[Part], path: str) -> Iterator[tuple[str, Part]]:
    """Each part of the message or result at `path`, and its own path."""
    for number, part in enumerate(parts):
        yield part.path or f"{path}.content[{number}]", part


def tools_of(tools: Sequence[Tool]) -> Iterator[tuple[str, Tool]]:
    """Each tool, and its path."""
    for number, tool in enumerate(tools):
        yield tool.path or f"tools[{number}]", tool


def lost_in(reply: Reply, target: Dialect) -> tuple[str, ...]:
    """The names of the parts that a complete reply of another format loses in `target`."""
    if reply.dialect == target.name:
        return ()
    lost: set[str] = set()
    for choice in reply.choices:
        lost |= lost_notes(choice.extras, cites=target.cites)
        for part in choice.parts:
            if not target.can_contain(part):
                lost.add(f"reply.{kind_of_part(part)}")
            if isinstance(part, Text):
                lost |= lost_notes(part.extras, cites=target.cites)
    return tuple(sorted(lost))


def lost_notes(extras: Extras, *, cites: bool) -> set[str]:
    """The names of what the extras of a text or of a choice lose in another format. `cites`: it has sources. The sound
    of a chat is a field of its message."""
    if not extras:
        return set()
    lost = {"reply.citations"} if not cites and citations_in(extras) else set()
    return lost | {"reply.audio"} if object_in(extras, "message").get("audio") else lost


def kind_of_part(part: Part) -> str:
    return part.kind if isinstance(part, Opaque) else type(part).__name__.lower()


def file_omission(part: Opaque) -> str:
    """The text that replaces a file of which `model/` has no type."""
    return f"[The model made a file ({part.media_type}), which the format of this reply cannot hold. It was left out.]"


def omission(part: Image | Audio, title: str) -> str:
    """The text that replaces a part without a place in this format. A stream has no other place for this information,
    and a reply with only such parts would look empty."""
    media = "an image" if isinstance(part, Image) else "audio"
    kind = f" ({part.source.media_type})" if isinstance(part.source, Inline) else ""
    return f"[The model made {media}{kind}, which a reply of {title} cannot hold. It was left out.]"
