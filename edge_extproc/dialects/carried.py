"""The marks of values that the gateway generates for replies, by which it recognizes them in a history.

A translated reply becomes history: its caller sends it back with the next request, which may go to a provider that
validates it. So every generated value is valid in its format and has a mark. A reader decodes the mark. On the raw
lane, where bodies are not parsed, a search of the bytes finds it. This module knows no format and no host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

MARK = "edge-carried:"
SIGNATURE = f"{MARK}signature:"
"""The mark of a signature of Claude, in a format without a field for it."""
REDACTED = f"{MARK}redacted:"
"""The mark of Claude's encrypted thinking."""
UNSIGNED = f"{MARK}unsigned"
"""The mark of unsigned thinking, in a format that requires a signature."""


def seal(signature: str | None) -> str:
    """A signature with its mark, for a format other than Claude's. None: the mark of unsigned thinking."""
    return SIGNATURE + signature if signature else UNSIGNED


def unseal(value: str) -> str | None:
    """The signature in a marked value; None for unsigned thinking. A value without a mark is returned unchanged."""
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
    """An id of letters, digits, `_` and `-`, which is the same for a call and its result. A valid id is unchanged. Any
    other one is encoded so that `original_id` can decode it or, if that would be too long, hashed."""
    if len(id) <= longest and LEGAL_ID.fullmatch(id):
        return id
    raw = id.encode("utf-8", "surrogatepass")
    encoded = _ID_MARK + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(encoded) <= longest:
        return encoded
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{_NOT_IN_ID.sub('_', id)[: longest - 17]}_{digest}"


def numbered_id(id: str, number: int) -> str:
    """The id of a call whose id was used before in its conversation, `number` - 1 times."""
    digest = hashlib.sha256(f"{id} {number}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_NOT_IN_ID.sub('_', id)[:15]}_{digest}"


def original_id(id: str) -> str:
    """The id that `tool_id` has encoded. Any other id is returned unchanged."""
    if not id.startswith(_ID_MARK):
        return id
    encoded = id.removeprefix(_ID_MARK)
    try:
        decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return id
    return decoded if decoded and tool_id(decoded) == id else id
