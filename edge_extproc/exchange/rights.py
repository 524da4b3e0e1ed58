"""The rights of a caller that select candidates, or that decide whether a cached reply may be returned."""

from __future__ import annotations

from collections.abc import Sequence

from ..auth.base import CallerRights
from ..errors import Forbidden
from ..model.call import Call
from ..model.plan import Candidate, Fallback


def able(rights: CallerRights, call: Call, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those of `candidates` that may serve this call; maybe none."""
    try:
        return rights.narrow(call, candidates)
    except Forbidden:
        return ()


def permitted(rights: CallerRights, call: Call, fallback: Fallback) -> Fallback:
    return Fallback(
        able(rights, call, fallback.context_length) if fallback.context_length else (),
        able(rights, call, fallback.content_filter) if fallback.content_filter else (),
    )
