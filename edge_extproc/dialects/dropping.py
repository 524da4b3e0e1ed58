"""What a chat loses on its way into another dialect, by the names in which its caller would look for it."""

from __future__ import annotations

from ..model.content import Audio, Extras, Image, Inline, Opaque, Part
from ..model.reply import Reply
from .base import Dialect


class DropList:
    """A crossing: `dropped` grows as the chat is written."""

    def __init__(self) -> None:
        self.dropped: set[str] = set()

    def _drop_if(self, path: str, condition: object) -> None:
        if condition:
            self.dropped.add(path)

    def _drop_extras(self, extras: Extras, path: str) -> None:
        """What has a value: a None is a note."""
        self.dropped.update(f"{path}.{key}" if path else key for key, value in extras.items() if value is not None)


def lost_in(reply: Reply, target: Dialect) -> tuple[str, ...]:
    """What a whole reply of another format loses in this one, by name."""
    if reply.dialect == target.name:
        return ()
    parts = [part for choice in reply.choices for part in choice.parts]
    return tuple(sorted({f"reply.{kind_of_part(part)}" for part in parts if not target.can_say(part)}))


def kind_of_part(part: Part) -> str:
    return part.kind if isinstance(part, Opaque) else type(part).__name__.lower()


def omission(part: Image | Audio, title: str) -> str:
    """The text that stands for a part which a reply of this format cannot hold: a stream has no other place to say so,
    and a reply of nothing else would look empty."""
    noun = "an image" if isinstance(part, Image) else "audio"
    kind = f" ({part.source.media_type})" if isinstance(part.source, Inline) else ""
    return f"[The model made {noun}{kind}, which a reply of {title} cannot hold. It was left out.]"
