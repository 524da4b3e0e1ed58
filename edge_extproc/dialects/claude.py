"""The capabilities of the Claude models, by generation, independent of the host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

# From memory of Anthropic's documentation of models, effort, thinking and structured outputs. Each row applies from its
# version on. If the models of a generation differ, the row has what all of them accept. The configuration can select
# another row for a model (`profile.models`).


@dataclass(frozen=True, slots=True)
class Generation:
    max_output: int
    """The max_tokens of a call without one: the API requires it, and OpenAI's default is the maximum."""
    budgets: bool = False
    """Whether thinking with a budget of tokens is supported."""
    adaptive: bool = False
    """Whether adaptive thinking, which depends on an effort, is supported."""
    efforts: tuple[str, ...] = ()
    thinks_unasked: bool = False
    """Whether the models think by default. For some of them, it cannot be disabled."""
    schemas: bool = False
    """Whether structured outputs are supported: output_config.format, and strict tools."""
    sampling: Literal["any", "one", "none"] = "any"
    """Which of temperature and top_p may be set: both, one of them, or none (then no top_k either)."""
    prefill: bool = False
    """Whether the models continue a last message of the assistant. Claude Opus 4.6, Sonnet 4.6 and all later models
    refuse it: "This model does not support assistant message prefill"."""


_GENERATIONS: tuple[tuple[tuple[int, int], Generation], ...] = (
    ((0, 0), Generation(4_096, prefill=True)),
    ((3, 5), Generation(8_192, prefill=True)),
    ((3, 7), Generation(64_000, budgets=True, prefill=True)),
    ((4, 0), Generation(32_000, budgets=True, prefill=True)),
    ((4, 1), Generation(32_000, budgets=True, sampling="one", prefill=True)),
    ((4, 5), Generation(64_000, budgets=True, schemas=True, sampling="one", prefill=True)),
    (
        (4, 6),
        Generation(64_000, adaptive=True, efforts=("low", "medium", "high", "max"), schemas=True, sampling="one"),
    ),
    (
        (4, 7),
        Generation(
            128_000, adaptive=True, efforts=("low", "medium", "high", "xhigh", "max"), schemas=True, sampling="none"
        ),
    ),
    (
        (5, 0),
        Generation(
            128_000,
            adaptive=True,
            efforts=("low", "medium", "high", "xhigh", "max"),
            thinks_unasked=True,
            schemas=True,
            sampling="none",
        ),
    ),
)
# Other makers' models with this format: all accept 8192 tokens; nothing else is known.
_NOT_CLAUDE = Generation(8_192)

_MOST_KNOWN = 256
"""The number of models whose generation is kept: each translated request needs it."""

_CLAUDE = re.compile(r"claude[-_ .]?(.*)")
_CLAUDE_SUFFIX = re.compile(r"@|-v\d+(?::|$)")  # Vertex writes @date, Bedrock -v1:0
_VERSION_NUMBER = re.compile(r"(?<!\d)\d{1,2}(?!\d)")  # a date has eight digits


# A Claude by its own name, by its family's (aliases of proxies), or behind an ARN: on Bedrock only Claude uses this
# format.
_IS_CLAUDE = re.compile(r"claude|\b(?:opus|sonnet|haiku)\b|^arn:")


def is_claude(model: str) -> bool:
    """Whether a model of Anthropic's format is a Claude, which verifies the signatures of thinking."""
    return _IS_CLAUDE.search(model.lower()) is not None


@lru_cache(maxsize=_MOST_KNOWN)
def generation_of(model: str) -> Generation:
    """The generation of a model, by its name. A Claude without a version counts as the newest."""
    match = _CLAUDE.search(model.lower())
    if match is None:
        return _NOT_CLAUDE
    numbers = [int(n) for n in _VERSION_NUMBER.findall(_CLAUDE_SUFFIX.split(match[1])[0])]
    version = (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else _GENERATIONS[-1][0]
    return next(generation for floor, generation in reversed(_GENERATIONS) if floor <= version)


# The budget of thinking tokens for each effort, for models that accept only a budget. 1024 is the API's minimum; each
# level has twice as many as the previous one.
LEAST_BUDGET = 1_024
BUDGETS: Mapping[str, int] = MappingProxyType(
    {"minimal": 1_024, "low": 1_024, "medium": 2_048, "high": 4_096, "xhigh": 8_192, "max": 16_384}
)
LEAST_TOP_P_WITH_THINKING = 0.95  # Anthropic's page on thinking
