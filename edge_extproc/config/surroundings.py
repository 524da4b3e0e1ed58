"""The environment variables and the base directory for `{env: …}` and relative paths."""

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
    """The surroundings of a validation, from its context."""
    if not isinstance(info.context, Surroundings):
        raise TypeError("a configuration is validated with its surroundings as context")
    return info.context
