"""How many output tokens a host may generate for a body in an OpenAI format, whatever spelling it reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..model.content import Json

_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "n_predict")

_MOST = 10**30
"""Larger counts are read as this one: no host has as many tokens."""


def output_bound(limits: Sequence[Json], others: Sequence[Json], extra_body: Json) -> int | None:
    """The largest limit, because hosts differ in which one they read. None: there is no limit, or one is negative,
    which means none to some hosts (`n_predict` of llama.cpp).

    `limits`: the values of the fields that OpenAI has. `others`: those of fields that other hosts read besides:
    `max_output_tokens` (LiteLLM), `max_new_tokens`, `n_predict` (llama.cpp). `extra_body`: a router merges it into the
    body.
    """
    if extra_body is not None or others.count(None) != len(others):
        more = extra_body if isinstance(extra_body, dict) else {}
        limits = [*limits, *others, *(more.get(name) for name in _NAMES)]
    most = 0
    for limit in limits:
        if limit is None:
            continue
        count = limit if type(limit) is int else _rounded(limit)
        if count < 0:
            return None
        most = max(most, count)
    return min(most, _MOST) or None


def as_count(value: Json) -> int | None:
    """A count as the most lenient host reads it, rounded up. Many hosts are written with libraries that also accept
    8.0, "8", "+8", " 8 ", "1_000", "8e3" or "0x8"."""
    count = _rounded(value)
    return count if count > 0 else None


def _rounded(value: Json) -> int:
    """The number, rounded up. -1: it is negative. 0: it is none."""
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if value > 0:
        return math.ceil(value) if value < _MOST else _MOST
    return -1 if value < 0 else 0  # 0 for NaN


def _number(text: str) -> int | float | None:
    plain = text.strip().replace("_", "")
    try:
        return int(plain, 16) if plain.lstrip("+-")[:2].lower() == "0x" else float(plain)
    except ValueError:
        return None
