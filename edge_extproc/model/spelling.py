"""How the callers of one wire format spell the fields of a `Chat`: data that a dialect gives and any target reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .content import NO_EXTRAS, Extras, Nothing
from .noun import noun

_SAME: Mapping[str, str] = Nothing()


@noun
class Spelling:
    """A reader puts one on each Chat; a writer of another format names fields by it. Where a message, a part or a tool
    stood in the caller's body is told by its own `path`."""

    fields: Mapping[str, str] = _SAME
    """The name of a Chat's field to its path in the caller's body, where that is not the same. A dot leads to a field
    of a field: `reasoning.effort`."""
    members: Mapping[str, str] = _SAME
    """The name of a field of a part or a tool to its path below the part or tool, where that is not the same. `id` is
    a call's, `call_id` a result's, `document_name` a document's `name`
    (`linked_document_name` that of one whose bytes are elsewhere, where it stands in another place)."""
    essential: Extras = NO_EXTRAS
    """Extras that change what the caller gets: a writer says them in its own format or refuses the chat. Each has the
    value that asks for nothing special."""
    outer: str | None = None
    """The extra of a part that holds fields of the object whose `content` the part stands in."""

    def field(self, name: str) -> str:
        """The caller's path of a field of the Chat."""
        known = self.fields.get(name)
        if known is not None:
            return known
        whole, dot, part = name.rpartition(".")
        return f"{self.field(whole)}.{part}" if dot else name

    def member(self, name: str) -> str:
        """The caller's path of a field of a part or a tool, below its own."""
        return self.members.get(name, name)

    def but(self, fields: Mapping[str, str]) -> Spelling:
        """The same with other paths of some fields: a format may have two spellings of one."""
        return replace(self, fields={**self.fields, **fields}) if fields else self


PLAIN = Spelling()
"""Of a Chat that no dialect read: each field has its own name."""
