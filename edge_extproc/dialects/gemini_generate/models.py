"""The capabilities of Gemini models by generation: thinking levels, budgets and schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

# --- capabilities of the models

# From memory of Google's pages on thinking, structured output, function calling and OpenAI compatibility.


@dataclass(frozen=True, slots=True)
class Generation:
    json_schema: bool = True
    """Whether JSON Schema is accepted; otherwise only OpenAPI's subset."""
    thinking: Literal["level", "budget", "none"] = "level"
    efforts: Mapping[str, str | int] = field(default_factory=dict)
    """The level or budget of each effort. "none" is missing if thinking cannot be disabled."""
    budgets: tuple[int, int] = (0, 0)
    """The least and the most thinking tokens that can be set."""
    is_third: bool = True
    """Gemini 3 or later: it refuses calls in the history without a thought signature, accepts images within a
    functionResponse, and has a media resolution for each part."""


_HIGH = {"high": "high", "xhigh": "high", "max": "high"}
_LEVELS_OF_FLASH = MappingProxyType(
    {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", **_HIGH}
)
_LEVELS_OF_PRO = MappingProxyType({"minimal": "low", "low": "low", "medium": "medium", **_HIGH})
_LEVELS_OF_3_PRO = MappingProxyType({"minimal": "low", "low": "low", "medium": "high", **_HIGH})  # it has two levels
_BUDGETS_OF_PRO = MappingProxyType(
    {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
)
_BUDGETS_OF_FLASH = MappingProxyType({**_BUDGETS_OF_PRO, "none": 0, "xhigh": 24_576, "max": 24_576})

_FLASH_3 = Generation(efforts=_LEVELS_OF_FLASH)
_PRO_3_1 = Generation(efforts=_LEVELS_OF_PRO)
_PRO_3 = Generation(efforts=_LEVELS_OF_3_PRO)
_FLASH_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_FLASH, budgets=(0, 24_576), is_third=False)
_LITE_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_FLASH, budgets=(512, 24_576), is_third=False)
_PRO_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_PRO, budgets=(128, 32_768), is_third=False)
_NOT_THINKING_2_5 = Generation(thinking="none", is_third=False)
_OLDER = Generation(json_schema=False, thinking="none", is_third=False)

_GEMINI = re.compile(r"gemini-(\d+)(?:[.-](\d)(?!\d))?")
_NOT_THINKING = re.compile(r"image|tts|audio|live|computer-use")
# The level of a budget, for models that accept only a level.
BUDGET_TO_EFFORT = ((1_024, "low"), (8_192, "medium"))


def generation_of(model: str) -> Generation:
    """The generation of a model, by its name. A Gemini without a version ("gemini-flash-latest") counts as the newest.
    Any other model counts as an old one, which accepts the least."""
    name = model.lower()
    is_pro = "pro" in name
    match = _GEMINI.search(name)
    if match is None:
        if "gemini" not in name:
            return _OLDER
        return _PRO_3_1 if is_pro else _FLASH_3
    version = int(match[1]), int(match[2] or 0)
    if version >= (3, 0):
        if not is_pro:
            return _FLASH_3
        return _PRO_3_1 if version >= (3, 1) else _PRO_3
    if version < (2, 5):
        return _OLDER
    if _NOT_THINKING.search(name):
        return _NOT_THINKING_2_5
    if is_pro:
        return _PRO_2_5
    return _LITE_2_5 if "lite" in name else _FLASH_2_5
