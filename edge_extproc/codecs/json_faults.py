"""Describes why bytes are not valid JSON, with the position.

Error texts of JSON libraries change with their versions, so none of them is repeated. The functions are called only for
a body that a decoder has refused. The module knows JSON, and no field of any API.
"""

from __future__ import annotations

import json

# Bytes. Python's own decoder parses the body again to find the position; the bound limits its cost.
_LONGEST_LOCATED = 64 << 10


def describe(raw: bytes) -> str:
    """The error as text that follows the name of the body: "is not valid JSON: see line 1, column 5"."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        return f"is not valid UTF-8: see byte {exc.start + 1}"
    if not text.strip(" \t\r\n"):
        return "is not valid JSON: it is empty"
    if len(raw) > _LONGEST_LOCATED:
        return "is not valid JSON"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        return f"is not valid JSON: see line {exc.lineno}, column {exc.colno}"
    except (ValueError, RecursionError):  # a number with more digits than Python reads, or nesting
        return "is nested too deeply, or has a number with too many digits"
    return "is not valid JSON" if isinstance(value, dict) else "is not a JSON object"
