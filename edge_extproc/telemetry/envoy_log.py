"""Removes callers' data from the log lines of Envoy itself.

At level debug, Envoy logs whole header maps and its gRPC messages to and from the agent, with bodies. This module masks
all header values except those that identify nobody, and all texts in messages except the names of headers. The rest of
the line passes through redaction.py. Lines of Envoy's access log are not changed: the rendered configuration chooses
their fields.
"""

from __future__ import annotations

import re

from .logs import redact
from .redaction import MASK

VERBOSE_LEVELS = frozenset({"trace", "debug"})
"""Levels at which Envoy logs what callers and providers send."""

# 'name', 'value': a line of a header map, or several pairs in one line.
_HEADER = re.compile(r"'([^']*)', '([^']*)'")
# A pair that fills its line; its value may contain quotes.
_WHOLE_LINE = re.compile(r"\s*'([^']*)', '(.*)")
# A string field of a protobuf message in text format.
_TEXT_FIELD = re.compile(r'(\s*)(\w+): ".*')
_HARMLESS = frozenset(
    {
        *(":method", ":scheme", ":status", "content-length", "content-type", "date", "server", "transfer-encoding"),
        *("x-request-id", "x-envoy-attempt-count", "x-envoy-upstream-service-time", "x-edge-route", "x-edge-cluster"),
    }
)
# The values of harmless headers that are shown. Callers can send any value under these names.
_PLAIN = re.compile(r"[A-Za-z0-9 _./;=*,+:-]{0,80}")


def cleaned(line: str) -> str:
    """The line without callers' data."""
    if line.startswith("{"):
        return line
    field = _TEXT_FIELD.fullmatch(line)
    if field is not None and field[2] != "key":
        return f'{field[1]}{field[2]}: "{MASK}"'
    pair = _WHOLE_LINE.fullmatch(line)
    if pair is not None:
        return redact(_masked(pair[1], pair[2].removesuffix("'")))
    return redact(_HEADER.sub(lambda match: _masked(match[1], match[2]), line))


def _masked(name: str, value: str) -> str:
    is_harmless = name.lower() in _HARMLESS and _PLAIN.fullmatch(value) is not None
    return f"'{name}', '{value if is_harmless else MASK}'"
