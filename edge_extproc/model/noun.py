"""How our nouns are made: dataclasses that nobody changes once they are there.

mypy holds that, not the interpreter: a dataclass that is frozen at run time sets each of its fields through
`object.__setattr__`, which came to an eighth of the time of an exchange (bench/exchange.py, docs/adr/063).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def noun(made: type[T]) -> type[T]:
    """As `dataclass(frozen=True, slots=True)`: equal and hashed by its fields, unless it says how itself."""
    return dataclass(slots=True, unsafe_hash="__hash__" not in vars(made))(made)
