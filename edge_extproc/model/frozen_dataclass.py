"""The decorator for the data types of this package: dataclasses that are frozen for the type checker.

mypy enforces immutability, not the interpreter. A dataclass that is frozen at run time sets each field through
`object.__setattr__`, which took an eighth of the time of an exchange (bench/exchange.py, docs/adr/063).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen_dataclass(cls: type[T]) -> type[T]:
    """The same as `dataclass(frozen=True, slots=True)` for users: equality and hash by the fields, unless the class
    defines its own hash."""
    return dataclass(slots=True, unsafe_hash="__hash__" not in vars(cls))(cls)
