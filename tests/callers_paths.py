"""Whether a name of a field leads somewhere in a caller's body."""

from __future__ import annotations

import json
import re
from typing import Any

_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def leads_somewhere(path: str, told: Any) -> bool:
    """Whether a path can be followed. Protobuf's JSON has two spellings of a key; Converse writes a schema as text."""
    for number, key in _STEP.findall(path):
        if isinstance(told, str):
            try:
                told = json.loads(told)
            except ValueError:
                return False
        if number:
            if not isinstance(told, list) or int(number) >= len(told):
                return False
            told = told[int(number)]
            continue
        found = [each for each in (key, _HUMP.sub("_", key).lower()) if isinstance(told, dict) and each in told]
        if not found:
            return False
        told = told[found[0]]
    return True
