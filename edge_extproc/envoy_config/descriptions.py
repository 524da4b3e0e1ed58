"""Descriptions of Envoy's messages: written like the types of envoy-data-plane, and made without importing them.

`Package("envoy.config.core.v3").SocketAddress(address="::1", port_value=1)` is a description. `json_form` makes its
fields. mypy checks every description against the types (envoy_types.py), and so do the tests (typed_messages.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class EnumMember:
    """A value of one of Envoy's enums."""

    package: str
    type: str
    name: str


class DescribedType(type):
    """A message type or an enum: an attribute of it is a member of the enum."""

    package: str

    def __getattr__(cls, name: str) -> EnumMember:
        if name.startswith("_"):
            raise AttributeError(name)
        member = EnumMember(cls.package, cls.__name__, name)
        setattr(cls, name, member)  # so that `is` compares it, as a member of a real enum
        return member


class Description(metaclass=DescribedType):
    """A message. Its attributes are the fields that are set."""

    package: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Package:
    """The message types and enums of a package of Envoy's API."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> DescribedType:
        if name.startswith("_"):
            raise AttributeError(name)
        made = DescribedType(name, (Description,), {"package": self._name})
        setattr(self, name, made)
        return made


def json_form(message: Description) -> dict[str, Any]:
    """The fields in the JSON form of protobuf. None and an empty list or map are the same as no field. Other defaults
    are written, because they differ from no field where the type is a wrapper, as BoolValue."""
    return {name: _value(value) for name, value in vars(message).items() if value is not None and value not in _EMPTY}


_EMPTY: tuple[object, ...] = ([], {})


def type_url(message: Description) -> str:
    return f"type.googleapis.com/{type(message).package}.{type(message).__name__}"


def _value(value: object) -> Any:
    match value:
        case str() | bool() | int() | float():
            return value
        case Description():
            return json_form(value)
        case list():
            return [_value(each) for each in value]
        case EnumMember():
            return value.name
        case timedelta():
            return _duration(value)
        case Mapping():
            return {key: _value(each) for key, each in value.items()}
    raise TypeError(f"{value!r} is no value of a field")


def _duration(value: timedelta) -> str:
    """Seconds with 0, 3 or 6 digits after the point, as protobuf writes them."""
    seconds, rest = divmod(round(value / timedelta(microseconds=1)), 1_000_000)
    if not rest:
        return f"{seconds}s"
    return f"{seconds}.{rest // 1000:03}s" if rest % 1000 == 0 else f"{seconds}.{rest:06}s"


# --- observation

Observe: TypeAlias = Callable[[Description, str | None], None]
_OBSERVE: ContextVar[Observe | None] = ContextVar("observe_messages", default=None)


@contextmanager
def observed(observe: Observe) -> Iterator[None]:
    """Within, `observe` is called with each message that is rendered, and its type URL if that is rendered too."""
    token = _OBSERVE.set(observe)
    try:
        yield
    finally:
        _OBSERVE.reset(token)


def announce(message: Description, url: str | None) -> None:
    """Tells the observer, if there is one, of a message that is rendered."""
    if (observe := _OBSERVE.get()) is not None:
        observe(message, url)
