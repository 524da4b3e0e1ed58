"""Lines of a prompt that differ with each request, such as one that a client means as a header.

No prefix cache of a provider and no key of the gateway's cache would ever match with such a line. `lines`: how they
begin.
"""

from __future__ import annotations

from collections.abc import Collection


def is_line(text: object, lines: Collection[str]) -> bool:
    """Whether a text is only such a line."""
    return isinstance(text, str) and text.startswith(tuple(lines)) and "\n" not in text.rstrip()


def has_line(raw: bytes, lines: Collection[str]) -> bool:
    """Whether a body may contain such a line. Only then it is worth a look."""
    for line in lines:  # noqa: SIM110 - a generator is a call more for each request
        if line.encode() in raw:
            return True
    return False


def without_lines(content: object, lines: Collection[str]) -> object:
    """A decoded content, text or parts, without them."""
    if isinstance(content, list):
        return [part for part in content if not (isinstance(part, dict) and is_line(part.get("text"), lines))]
    return "" if is_line(content, lines) else content
