"""What a configuration is read in: it decides what `{env: …}` and a relative path mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo


@dataclass(frozen=True, slots=True)
class Surroundings:
    environ: Mapping[str, str]
    base: Path
    """The directory of the configuration file."""


def surroundings(info: ValidationInfo[Any]) -> Surroundings:
    """Those that the validation was started with."""
    if not isinstance(info.context, Surroundings):
        raise TypeError("a configuration is validated with its surroundings as context")
    return info.context
