"""What a host that calls itself OpenAI-compatible takes otherwise than OpenAI, as data, and how a body is bent to it.

Only the members that differ are touched; every other byte of the body stays.
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
    """Of the chat completions format."""

    renamed: tuple[tuple[str, str], ...] = ()
    """OpenAI's name of a field, and the host's. A value that stands under the host's own name wins."""
    unknown: frozenset[str] = frozenset()
    """Fields that the host refuses, or takes and does not heed. stream_options is ours: the host tells its usage
    unasked. Any other one of the caller's is named as dropped."""
    system_only: bool = False
    """It knows no role `developer`; `system` means the same."""

    def bend(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """The body for the host, and what it could not be told. A body that is no JSON object stays as it is."""
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
        gone = self.unknown & members.keys()
        changes.update(dict.fromkeys(sorted(gone)))
        if self.system_only and b"developer" in body:
            changes["messages"] = _with_system(bytes(members.get("messages", b"[]")))
        return json_splice.splice(body, changes), tuple(sorted(gone - {"stream_options"}))


class _Role(msgspec.Struct):
    role: str = ""


_role = msgspec.json.Decoder(_Role)


def _with_system(messages: bytes) -> bytes:
    try:
        rows = _rows.decode(messages)
        bent = [
            json_splice.splice(bytes(row), {"role": b'"system"'}) if _role.decode(row).role == "developer" else row
            for row in rows
        ]
    except UNREADABLE:
        return messages  # the host will say what is wrong with it
    return b"[" + b",".join(bytes(row) for row in bent) + b"]"
