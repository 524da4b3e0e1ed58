"""What Envoy itself writes when it is told to write more than warnings.

At debug it shows whole header maps, and what it and the agent tell each other, with bodies. No value of a header is
shown but of those that say nothing of anybody, no text of a message but the names of headers, and of everything else
redaction.py takes out what it finds. Envoy's access log passes as it is: it is made of fields that render_envoy.py
chose.
"""

from __future__ import annotations

import re

from .logs import redact
from .redaction import MASK

TALKATIVE = frozenset({"trace", "debug"})
"""Levels at which Envoy shows what callers and providers send."""

# 'name', 'value': a line of a header map, or some of them in one line.
_HEADER = re.compile(r"'([^']*)', '([^']*)'")
# One that has its line to itself, whatever quotes its value holds.
_ALONE = re.compile(r"\s*'([^']*)', '(.*)")
# A text within a message of protobuf.
_TOLD = re.compile(r'(\s*)(\w+): ".*')
_HARMLESS = frozenset(
    {
        *(":method", ":scheme", ":status", "content-length", "content-type", "date", "server", "transfer-encoding"),
        *("x-request-id", "x-envoy-attempt-count", "x-envoy-upstream-service-time", "x-edge-route", "x-edge-cluster"),
    }
)
# What a request-id may be; callers may send anything under this name.
_PLAIN = re.compile(r"[A-Za-z0-9 _./;=*,+:-]{0,80}")


def cleaned(line: str) -> str:
    """A line of Envoy's output, fit to be shown."""
    if line.startswith("{"):
        return line
    told = _TOLD.fullmatch(line)
    if told is not None and told[2] != "key":
        return f'{told[1]}{told[2]}: "{MASK}"'
    alone = _ALONE.fullmatch(line)
    if alone is not None:
        return redact(_shown(alone[1], alone[2].removesuffix("'")))
    return redact(_HEADER.sub(lambda found: _shown(found[1], found[2]), line))


def _shown(name: str, value: str) -> str:
    is_harmless = name.lower() in _HARMLESS and _PLAIN.fullmatch(value) is not None
    return f"'{name}', '{value if is_harmless else MASK}'"
