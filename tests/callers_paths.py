"""Whether a name of a field leads somewhere in a caller's body."""

from __future__ import annotations

import json
import re
from typing import Any

_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def leads_somewhere(path: str, value: Any) -> bool:
    """Whether a path can be followed. Protobuf's JSON has two spellings of a key; Converse writes a schema as text."""
    for number, key in _STEP.findall(path):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return False
        if number:
            if not isinstance(value, list) or int(number) >= len(value):
                return False
            value = value[int(number)]
            continue
        spellings = [each for each in (key, _HUMP.sub("_", key).lower()) if isinstance(value, dict) and each in value]
        if not spellings:
            return False
        value = value[spellings[0]]
    return True
