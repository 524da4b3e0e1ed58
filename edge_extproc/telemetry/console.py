"""Access log lines for a terminal: one short line for each request, instead of JSON.

Texts of callers pass the same redaction as in JSON, and cannot control the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson

from ..model.checked import AuthzDecision
from ..model.settlement import Settlement
from .logs import plain, redacted_and_cut

# Columns: a longer model name or path moves the rest of its line.
_PATH, _ROUTE = 24, 32


def line(record: Settlement | AuthzDecision) -> bytes:
    """One line, with a line end."""
    columns = _settlement(record) if isinstance(record, Settlement) else _decision(record)
    return f"{_clock(record.started_at)}  {'  '.join(each for each in columns if each)}\n".encode(errors="replace")


def envoy_line(text: str) -> str | None:
    """A line of Envoy's access log. None: the agent has a line about the same request. Other lines are unchanged."""
    if not text.startswith("{"):
        return text
    try:
        logged: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if "flags" not in logged or "details" not in logged:
        return text
    if logged.get("edge"):
        return None
    at = str(logged.get("time", ""))[11:19]
    values = (str(logged.get(name) or "-") for name in ("status", "method", "details", "flags"))
    return _printable(f"{at}Z  {'  '.join(values)}  {logged.get('duration_ms')} ms  answered by Envoy")


def _settlement(s: Settlement) -> Iterator[str]:
    yield str(s.status or "---")
    yield f"{s.method} {_text(s.path)}".ljust(_PATH)
    there = f"{s.provider}/{_text(s.upstream_model)}" if s.provider is not None else ""
    yield " → ".join(each for each in (_text(s.model), there) if each).ljust(_ROUTE)
    yield f"{s.duration * 1000:.0f} ms"
    if s.time_to_first_token is not None:
        yield f"first token {s.time_to_first_token * 1000:.0f} ms"
    if s.usage is not None:
        yield f"{s.usage.prompt}+{s.usage.completion} tokens{' (estimated)' if s.estimated else ''}"
    if s.cost is not None:
        yield f"${plain(s.cost)}"
    if s.cache in ("hit", "stale", "semantic"):
        yield f"cache {s.cache}"
    if s.attempts > 1:
        yield f"{s.attempts} attempts"
    if s.outcome != "ok":
        yield f"{s.outcome}: {_text(s.code) or '-'}"
    if s.dropped:
        yield f"dropped {', '.join(map(_text, s.dropped[:3]))}{' …' if len(s.dropped) > 3 else ''}"
    if s.guardrails:
        yield f"guardrails {', '.join(dict.fromkeys(f'{hit.rule}={hit.action}' for hit in s.guardrails))}"
    yield "/".join(each for each in (s.tenant, s.key_id) if each)


def _decision(c: AuthzDecision) -> Iterator[str]:
    yield str(c.status or 200)
    yield f"{c.method} {_text(c.path)}".ljust(_PATH)
    yield f"ext_authz: {c.result}"
    yield _text(c.code)
    yield f"{c.duration * 1000:.0f} ms"
    yield "/".join(each for each in (c.tenant, c.key_id) if each)


def _text(text: str | None) -> str:
    return _printable(redacted_and_cut(text) or "")


def _printable(text: str) -> str:
    """Without control characters, which a terminal would execute."""
    return "".join(each if each.isprintable() else "�" for each in text)


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
