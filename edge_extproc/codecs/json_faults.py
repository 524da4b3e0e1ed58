"""Why bytes are not the JSON that a decoder wanted, in our own words and with the place.

The sentences of a JSON library change with its version, so no error text repeats them. Called only for a body that a
decoder has refused. This module knows JSON, and no field of any API.
"""

from __future__ import annotations

import json

# Python's own decoder, which reads the body again, finds the place: bounded, so that a large bad body costs little.
_MOST_LOCATED = 64 << 10


def describe(raw: bytes) -> str:
    """What the body is or is not, to stand after its name: "is not valid JSON: see line 1, column 5"."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        return f"is not valid UTF-8: see byte {exc.start + 1}"
    if not text.strip(" \t\r\n"):
        return "is not valid JSON: it is empty"
    if len(raw) > _MOST_LOCATED:
        return "is not valid JSON"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        return f"is not valid JSON: see line {exc.lineno}, column {exc.colno}"
    except (ValueError, RecursionError):  # a number of more digits than Python reads; nesting
        return "is nested too deeply, or holds a number of too many digits"
    return "is not valid JSON" if isinstance(value, dict) else "is no JSON object"
