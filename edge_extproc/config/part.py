"""What every section of the configuration is made of: its base class and the smallest types."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from .wrong import wrong

T = TypeVar("T")


class ConfigSection(BaseModel):
    # A value may be a secret in the wrong place, so pydantic must not show it.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def frozen(value: Mapping[str, T]) -> Mapping[str, T]:
    return MappingProxyType(dict(value))


def thawed(value: Mapping[str, T]) -> dict[str, T]:
    return dict(value)


def _text(value: object) -> object:
    if isinstance(value, str):
        if not value:
            raise wrong("this is empty", "write some text, or leave the key out")
        return value
    raise wrong("this is no text", "put it in quotes" if isinstance(value, int | float) else "write text")


def _label(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", value):
        raise wrong("this is no name", "use up to 64 of A-Z a-z 0-9 . _ @ -, and begin with a letter or digit")
    return value


def one_of(*names: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in names:
            raise wrong(f"this is none of {', '.join(names)}", f"write one of them, {names[0]} for instance")
        return value

    return BeforeValidator(check)


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - systems that cannot bind a process to cores


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise wrong("this is no IP address", "write 127.0.0.1 for this machine, 0.0.0.0 for all interfaces") from None


def automatic(number: int) -> BeforeValidator:
    return BeforeValidator(lambda value: number if value == "auto" else value)


Text = Annotated[str, BeforeValidator(_text)]
Label = Annotated[Text, AfterValidator(_label)]
IpAddress = Annotated[Text, AfterValidator(_address)]
Automatic = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
