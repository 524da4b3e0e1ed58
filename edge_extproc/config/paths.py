"""Paths in a configuration. A relative path begins at the directory of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from .surroundings import surroundings
from .wrong import wrong


def _path(value: object, info: ValidationInfo[Any]) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise wrong("this is not a path", "write a path; a relative one begins at the configuration file")
    return (surroundings(info).base / Path(value).expanduser()).absolute()


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise wrong("there is no such file", "give the path of one; a relative path begins at the configuration file")
    return path


AnyPath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string"})]
ReadableFile = Annotated[AnyPath, AfterValidator(_readable)]
