"""The base class of all sections of the configuration, and their common types."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from .wrong import wrong

T = TypeVar("T")


class ConfigSection(BaseModel):
    # A value may be a secret in the wrong place, so pydantic must not show it.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A section is immutable. pydantic copies a default for each section that has it, as each provider."""
        return self


def frozen(value: Mapping[str, T]) -> Mapping[str, T]:
    return MappingProxyType(dict(value))


def thawed(value: Mapping[str, T]) -> dict[str, T]:
    return dict(value)


def _text(value: object) -> object:
    if isinstance(value, str):
        if not value:
            raise wrong("this is empty", "write some text, or leave the key out")
        return value
    raise wrong("this is not text", "put it in quotes" if isinstance(value, int | float) else "write text")


def read_label(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", value):
        raise wrong("this is not a name", "use up to 64 of A-Z a-z 0-9 . _ @ -, and begin with a letter or digit")
    return value


def one_of(*names: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in names:
            raise wrong(f"this is not one of {', '.join(names)}", f"write one of them, such as {names[0]}")
        return value

    return BeforeValidator(check)


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - systems that cannot bind a process to cores


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise wrong(
            "this is not an IP address", "write 127.0.0.1 for this machine, 0.0.0.0 for all interfaces"
        ) from None


def automatic(number: int) -> BeforeValidator:
    return BeforeValidator(lambda value: number if value == "auto" else value)


Text = Annotated[str, BeforeValidator(_text)]
Label = Annotated[Text, AfterValidator(read_label)]
IpAddress = Annotated[Text, AfterValidator(_address)]
Automatic = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
