"""The differences between an OpenAI-compatible host and OpenAI, as data, and the functions that adapt a body to them.

Only the members that differ are changed; all other bytes of the body stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Quirks:
    """The differences of a host in the chat completions format."""

    renamed: tuple[tuple[str, str], ...] = ()
    """OpenAI's name of a field, and the host's. If a body has both, the host's field is kept."""
    unknown: frozenset[str] = frozenset()
    """Fields that the host refuses or ignores. They are removed, and named as dropped, except for stream_options: such
    a host always reports usage."""

    def adapt(self, body: bytes, *, system_only: bool) -> tuple[bytes, tuple[str, ...]]:
        """The body for the host, and the names of the dropped fields. A body that is not a JSON object is unchanged.
        `system_only`: the host may refuse the role `developer`, as most hosts do."""
        system_only = system_only and b"developer" in body
        if not (self.renamed or self.unknown or system_only):
            return body, ()
        try:
            members = _members.decode(body)
        except UNREADABLE:
            return body, ()
        changes: dict[str, json_splice.Change] = {}
        for ours, theirs in self.renamed:
            if ours in members:
                changes[ours] = None
                if theirs not in members:
                    changes[theirs] = bytes(members[ours])
        removed = self.unknown & members.keys()
        changes.update(dict.fromkeys(sorted(removed)))
        if system_only:
            changes["messages"] = _with_system(bytes(members.get("messages", b"[]")), joined=True)
        return json_splice.splice(body, changes), tuple(sorted(removed - {"stream_options"}))

    @staticmethod
    def adapt_input(body: bytes, *, system_only: bool) -> bytes:
        """The same for a body of the Responses format. It drops nothing."""
        if not system_only or b"developer" not in body:
            return body
        try:
            value = bytes(_members.decode(body).get("input", b"[]"))
        except UNREADABLE:
            return body
        items = _with_system(value) if value[:1] == b"[" else value
        return body if items == value else json_splice.splice(body, {"input": items})


NO_QUIRKS = Quirks()


class _Role(msgspec.Struct):
    role: str = ""


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message that has only a role and a content."""

    role: str
    content: str | list[msgspec.Raw]

    @property
    def parts(self) -> list[msgspec.Raw]:
        if isinstance(self.content, list):
            return self.content
        return [msgspec.Raw(msgspec.json.encode({"type": "text", "text": self.content}))]


_role = msgspec.json.Decoder(_Role)
_plain_message = msgspec.json.Decoder(_PlainMessage)


def _with_system(messages: bytes, *, joined: bool = False) -> bytes:
    """The messages with the role `system` instead of `developer`. `joined`: the leading ones are joined, because the
    templates of many models (Qwen's, Mistral's) accept only one system message, the first."""
    try:
        rows = [bytes(row) for row in _rows.decode(messages)]
        roles = [_role.decode(row).role for row in rows]
    except UNREADABLE:
        return messages  # the host reports the error
    if "developer" not in roles:
        return messages
    adapted = [
        json_splice.splice(row, {"role": b'"system"'}) if role == "developer" else row
        for row, role in zip(rows, roles, strict=True)
    ]
    leading = next((i for i, role in enumerate(roles) if role not in ("developer", "system")), len(roles))
    if joined and leading > 1:
        adapted = [*_joined(adapted[:leading]), *adapted[leading:]]
    return b"[" + b",".join(adapted) + b"]"


def _joined(rows: list[bytes]) -> list[bytes]:
    """The system messages as one message. Unchanged if one of them has other members, such as a name."""
    try:
        messages = [_plain_message.decode(row) for row in rows]
    except UNREADABLE:
        return rows
    texts = [turn.content for turn in messages if isinstance(turn.content, str)]
    content = "\n\n".join(texts) if len(texts) == len(messages) else [part for turn in messages for part in turn.parts]
    return [msgspec.json.encode({"role": "system", "content": content})]
