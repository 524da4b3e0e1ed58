"""Lines of a prompt that differ with each request, such as one that a client means as a header.

No prefix cache of a provider and no key of the gateway's cache would ever match with such a line. `lines`: how they
begin. Settings follow, as `name=value;`: another line that begins so is the caller's own text.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_SETTINGS = re.compile(r"(?:[ \t]*[\w.-]++=[^;\s]*+(?:;|\s*$))++\s*")


def without_line(text: str, lines: Collection[str]) -> str:
    """A text without such lines, which may stand beside others. A text without them is returned as it is."""
    if not any(line in text for line in lines):
        return text
    all_lines = text.split("\n")
    kept = [line for line in all_lines if not _is_one(line, lines)]
    return text if len(kept) == len(all_lines) else "\n".join(kept).strip("\n")


def _is_one(text: str, lines: Collection[str]) -> bool:
    return any(text.startswith(line) and _SETTINGS.fullmatch(text, len(line)) for line in lines)


def has_line(raw: bytes, lines: Collection[str]) -> bool:
    """Whether a body may contain such a line. Only then it is worth a look."""
    for line in lines:  # noqa: SIM110 - a generator is a call more for each request
        if line.encode() in raw:
            return True
    return False


def without_lines(content: object, lines: Collection[str]) -> object:
    """A decoded content, text or parts, without them. Parts of which nothing is left are removed."""
    if isinstance(content, str):
        return without_line(content, lines)
    if not isinstance(content, list):
        return content
    kept: list[object] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or (left := without_line(text, lines)) == text:
            kept.append(part)
        elif left.strip():
            kept.append({**part, "text": left})
    return kept
