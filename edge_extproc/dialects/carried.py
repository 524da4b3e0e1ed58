"""The marks by which the gateway knows its own values when a caller sends them back.

A translated reply becomes history: its caller sends it back with the next request, and that request may go to a
provider that checks what stands in it. So everything that this gateway makes for a reply is legal in the format in
which it is written, and bears a mark. A reader undoes the mark; on the raw lane, where a body is passed on unread, the
mark is what a search of the bytes finds. This file knows no format and no host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

MARK = "edge-carried:"
SIGNATURE = f"{MARK}signature:"
"""Thinking that Claude signed, where the format has no field for its signature."""
REDACTED = f"{MARK}redacted:"
"""Thinking that only Claude can read."""
UNSIGNED = f"{MARK}unsigned"
"""Thinking that nobody signed, where the format asks for a signature."""


def seal(signature: str | None) -> str:
    """What stands for the signature of some thinking in a format that is not Claude's."""
    return SIGNATURE + signature if signature else UNSIGNED


def unseal(value: str) -> str | None:
    """The signature within a mark; None where there is none. What bears no mark is the signature itself."""
    if value.startswith(MARK):
        return value.removeprefix(SIGNATURE) if value.startswith(SIGNATURE) else None
    return value


# --- ids of tool calls

# Anthropic: `tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'`. Bedrock's service model: ToolUseId has the
# same characters, 1 to 64 of them.
LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_ID = 64
_ID_MARK = "edge-id-"
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def tool_id(id: str, longest: int = _LONGEST_ID) -> str:
    """An id of letters, digits, `_` and `-`: the same for the same id, in a call and in its result. One that is legal
    already stays. Another one is encoded so that `original_id` gives it back, or, where that would be too long, is
    hashed."""
    if len(id) <= longest and LEGAL_ID.fullmatch(id):
        return id
    raw = id.encode("utf-8", "surrogatepass")
    encoded = _ID_MARK + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(encoded) <= longest:
        return encoded
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{_NOT_IN_ID.sub('_', id)[: longest - 17]}_{digest}"


def original_id(id: str) -> str:
    """The id that `tool_id` encoded. Any other id is its own."""
    if not id.startswith(_ID_MARK):
        return id
    encoded = id.removeprefix(_ID_MARK)
    try:
        found = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return id
    return found if found and tool_id(found) == id else id
