"""Finds texts that are too long, and texts in other scripts than the allowed ones.

The script of a letter says less than its language: English, German and Turkish have one script. No dictionary is
needed, and a short text has a script too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from ...config.part import ConfigSection, one_of
from ...config.quantities import Count
from ...config.wrong import wrong
from ..base import Finding, TextKind

Script: TypeAlias = Literal[
    "latin",
    "greek",
    "cyrillic",
    "armenian",
    "hebrew",
    "arabic",
    "devanagari",
    "thai",
    "georgian",
    "hangul",
    "kana",
    "han",
]
_SCRIPTS: tuple[Script, ...] = get_args(Script)
_RANGES: dict[Script, str] = {
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "cyrillic": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "armenian": "\u0530-\u058f",
    "hebrew": "\u0590-\u05ff\ufb1d-\ufb4f",
    "arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc",
    "devanagari": "\u0900-\u097f",
    "thai": "\u0e00-\u0e7f",
    "georgian": "\u10a0-\u10ff\u1c90-\u1cbf",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "kana": "\u3040-\u30ff\u31f0-\u31ff",
    "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f",
}
_LETTERS = re.compile(r"[^\W\d_]+")
_LONGEST_RUN = 256


class SizeOptions(ConfigSection):
    """The length of a text, and the scripts of its letters."""

    max_characters: Count | None = None
    """The most characters of one text. A longer one is found, at its first character too many."""
    scripts: tuple[Annotated[Script, one_of(*_SCRIPTS)], ...] = ()
    """The allowed scripts: latin, greek, cyrillic, armenian, hebrew, arabic, devanagari, thai, georgian, hangul, kana,
    han. Japanese has kana and han. Default: all."""
    max_other_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The most letters of other scripts, as a share of all letters of the text. 0: none."""

    @model_validator(mode="after")
    def _some(self) -> SizeOptions:
        if self.max_characters is None and not self.scripts:
            raise wrong("this detector would find nothing", "give max_characters or scripts")
        return self


class SizeDetector:
    def __init__(self, options: SizeOptions) -> None:
        self._max = options.max_characters
        self._share = options.max_other_share
        allowed = "".join(_RANGES[script] for script in options.scripts)
        self._others = re.compile(f"(?:(?![{allowed}])[^\\W\\d_]){{1,{_LONGEST_RUN}}}") if allowed else None
        self._latin = "latin" in options.scripts

    @property
    def longest(self) -> int:
        """A stream must hold the characters that are counted."""
        return max(self._max + 1 if self._max is not None else 0, _LONGEST_RUN)

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        found = []
        if self._others is not None and not (self._latin and text.isascii()):
            others = [match.span() for match in self._others.finditer(text)]
            letters = sum(len(run) for run in _LETTERS.findall(text)) if others else 0
            if sum(end - start for start, end in others) > self._share * letters:
                found.append(Finding(*others[0], "other_script"))
        if self._max is not None and len(text) > self._max and not (found and found[0].end > self._max):
            found.append(Finding(self._max, self._max + 1, "too_long"))
        return found


class SizePlugin:
    """The detector `size`."""

    options = SizeOptions

    def build(self, options: SizeOptions) -> SizeDetector:
        return SizeDetector(options)


PLUGIN = SizePlugin()
