"""The names and paths of a `Chat`'s fields in the caller's wire format, for error texts and for dropped fields."""

from __future__ import annotations

from collections.abc import Mapping

from .content import NO_EXTRAS, Extras, Nothing
from .frozen_dataclass import frozen_dataclass

_SAME: Mapping[str, str] = Nothing()


@frozen_dataclass
class Spelling:
    """The reader of a dialect sets it on each Chat. A writer of another format uses it to name fields. The path of a
    message, a part or a tool is in its own `path`."""

    fields: Mapping[str, str] = _SAME
    """The paths in the caller's body of the Chat's fields whose name is different there. A dot selects a field of a
    field: `reasoning.effort`."""
    members: Mapping[str, str] = _SAME
    """The same for fields of a part or a tool; the paths are relative to the part or tool. `id` is a tool call's,
    `call_id` a tool result's, `document_name` a document's `name`, and `linked_document_name` the name of a document
    that is given by reference, if it has another path."""
    essential: Extras = NO_EXTRAS
    """Extras that change the reply, each with its neutral value. A writer of another format translates such an extra,
    or refuses the chat if the value is not neutral."""
    outer: str | None = None
    """The extra of a part that contains fields of the object around the part's `content`."""

    def field(self, name: str) -> str:
        """The caller's path of a field of the Chat."""
        known = self.fields.get(name)
        if known is not None:
            return known
        parent, dot, part = name.rpartition(".")
        return f"{self.field(parent)}.{part}" if dot else name

    def member(self, name: str) -> str:
        """The caller's path of a field of a part or a tool, below its own."""
        return self.members.get(name, name)

    def but(self, fields: Mapping[str, str]) -> Spelling:
        """A copy with other paths for some fields: a format may have two names for one field."""
        if not fields:
            return self
        return Spelling({**self.fields, **fields}, self.members, self.essential, self.outer)


PLAIN = Spelling()
"""For a Chat that no dialect has read: each field has its own name."""
