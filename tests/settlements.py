"""How an exchange ended, for tests of what hears of it: a test says only what it is about."""

from __future__ import annotations

from typing import Any

from edge_extproc.model.settlement import Settlement


def settlement(**more: Any) -> Settlement:
    """Answered, two seconds after it began; nothing else is known of it."""
    plain: dict[str, Any] = {
        "exchange_id": "e1",
        "outcome": "ok",
        "status": 200,
        "code": None,
        "started_at": 1_000.0,
        "duration": 2.0,
        "overhead": 0.003,
    }
    return Settlement(**(plain | more))
