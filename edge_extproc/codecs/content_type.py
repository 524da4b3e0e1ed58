"""Parses the parameters of a media type or a disposition: `form-data; name="model"` to {"name": "model"}."""

from __future__ import annotations

import re
from functools import lru_cache

_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
_ESCAPED = re.compile(r"\\(.)")


def parameters(value: str) -> dict[str, str]:
    """The parameters by lower-case name. Raises ValueError for a duplicate."""
    values: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        key = name.lower()
        if key in values:
            raise ValueError(f"the parameter {key!r} occurs twice")
        values[key] = plain or _ESCAPED.sub(r"\1", quoted)
    return values


# Nearly all replies have one of a few content types.
@lru_cache(maxsize=64)
def media_type(value: str) -> str:
    """The media type in lower case, without its parameters."""
    return value.partition(";")[0].strip().lower()
