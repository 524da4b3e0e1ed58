"""Reads the JSON of a request as strictly as a provider does. An error has the path of the wrong field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class Refused(Exception):
    """A refused request. Each format encodes the error in its own way."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


_NAMES = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of a request, and its path. A null counts as absent."""

    values: Mapping[str, object] = field(repr=False)
    path: str = ""

    def where(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, name: str, why: str, code: str | None = None) -> Refused:
        return Refused(f"{self.where(name)}: {why}", param=self.where(name), code=code)

    def only(self, *known: str) -> None:
        for name in self.values:
            if name not in known:
                raise self.refuse(name, "this field is not known here", "unknown_parameter")

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def _maybe(self, name: str, kind: type[T]) -> T | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.refuse(name, f"{_NAMES[kind]} is expected here", "invalid_type")
        return value

    def _required(self, name: str, value: T | None) -> T:
        if value is None:
            raise self.refuse(name, "this field is required", "missing_required_parameter")
        return value

    def maybe_text(self, name: str) -> str | None:
        return self._maybe(name, str)

    def text(self, name: str) -> str:
        return self._required(name, self.maybe_text(name))

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._maybe(name, bool)
        return default if value is None else value

    def maybe_whole(self, name: str, low: int, high: int) -> int | None:
        value = self._maybe(name, int)
        if value is not None and not low <= value <= high:
            raise self.refuse(name, f"{value} is not within {low} and {high}", "invalid_value")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        return self._required(name, self.maybe_whole(name, low, high))

    def maybe_number(self, name: str, low: float, high: float) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(name, "a number is expected here", "invalid_type")
        if not low <= value <= high:
            raise self.refuse(name, f"{value} is not within {low} and {high}", "invalid_value")
        return value

    def maybe_one_of(self, name: str, *allowed: str) -> str | None:
        value = self.maybe_text(name)
        if value is not None and value not in allowed:
            raise self.refuse(name, f"{value!r} is not one of {', '.join(allowed)}", "invalid_value")
        return value

    def one_of(self, name: str, *allowed: str) -> str:
        return self._required(name, self.maybe_one_of(name, *allowed))

    def maybe_nested(self, name: str) -> Fields | None:
        value = self._maybe(name, dict)
        return None if value is None else Fields(value, self.where(name))

    def nested(self, name: str) -> Fields:
        return self._required(name, self.maybe_nested(name))

    def maybe_array(self, name: str) -> list[object] | None:
        return self._maybe(name, list)

    def each(self, name: str) -> Iterator[Fields]:
        """The objects of an array. None if the field is absent."""
        for index, value in enumerate(self.maybe_array(name) or ()):
            path = f"{self.where(name)}[{index}]"
            if not isinstance(value, dict):
                raise Refused(f"{path}: an object is expected here", param=path, code="invalid_type")
            yield Fields(value, path)

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of an array. None if the field is absent."""
        values = self.maybe_array(name) or []
        texts = tuple(value for value in values if isinstance(value, str))
        if len(texts) != len(values):
            raise self.refuse(name, "strings are expected in this array", "invalid_type")
        return texts
