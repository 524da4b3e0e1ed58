"""Compares rendered messages with the types of envoy-data-plane.

The tests do it for each message that they render, and `check` where envoy-data-plane is installed and no Envoy is. A
running process does not, because importing the types takes longer than starting all processes of the gateway.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from types import ModuleType
from typing import Any

from ..errors import ConfigError
from .descriptions import Description, EnumMember, json_form, observed


def typed_messages_installed() -> bool:
    return importlib.util.find_spec("envoy_data_plane") is not None


@contextmanager
def typed_messages() -> Iterator[None]:
    """Within, each message that is rendered is also made with its type. Raises ConfigError if the type has no such
    field, enum value or type URL, or if its value cannot be in the field."""
    seen: set[object] = set()

    def compare(message: Description, url: str | None) -> None:
        # Messages that differ in text alone, as those of many providers, have one check.
        form = (_form(message), url)
        if form not in seen:
            _compare(message, url)
            seen.add(form)

    with observed(compare):
        yield


def _compare(message: Description, url: str | None) -> None:
    name = f"{type(message).package}.{type(message).__name__}"
    try:
        typed = _typed(message)
        least = _dict(typed)
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"the rendered {name} is not a message of Envoy: {error}") from error
    rendered = json_form(message)
    # Defaults may be rendered that the types leave out.
    rightly = _within(rendered, least) or _within(rendered, _dict(typed, include_default_values=True))
    if not (_within(least, rendered) and rightly):
        raise ConfigError(f"the rendered {name} is not the message of Envoy: {rendered}; expected {least}")
    if url is not None and url != (expected := _url(typed)):
        raise ConfigError(f"the rendered {name} has the type URL {url}; expected {expected}")


def _typed(value: Any) -> Any:
    """The value with the types of envoy-data-plane."""
    match value:
        case Description():
            cls = getattr(_module(type(value).package), type(value).__name__)
            return cls(**{name: _typed(each) for name, each in vars(value).items()})
        case EnumMember():
            return getattr(getattr(_module(value.package), value.type), value.name)
        case list():
            return [_typed(each) for each in value]
        case Mapping():
            return {key: _typed(each) for key, each in value.items()}
    return value


def _url(message: Any) -> str | None:
    from envoy_data_plane.message_pool import default_message_pool

    return default_message_pool.type_to_url.get(type(message))


@cache
def _module(package: str) -> ModuleType:
    with warnings.catch_warnings():
        # envoy-data-plane 2.2 declares validators in a form that pydantic deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"envoy_data_plane.{package}")


def _dict(message: Any, *, include_default_values: bool = False) -> Mapping[str, Any]:
    from betterproto2 import Casing

    found: Mapping[str, Any] = message.to_dict(casing=Casing.SNAKE, include_default_values=include_default_values)
    return found


def _within(part: Any, whole: Any) -> bool:
    """Whether `whole` has all that `part` has. The types write numbers of 64 bits as text."""
    match part, whole:
        case Mapping(), Mapping():
            return all(key in whole and _within(value, whole[key]) for key, value in part.items())
        case list(), list():
            return len(part) == len(whole) and all(map(_within, part, whole))
        case (int(), str()) | (str(), int()):
            return str(part) == str(whole)
    return bool(part == whole)


def _form(value: Any) -> object:
    """Equal for messages with the same fields that differ in text and durations alone."""
    match value:
        case Description():
            return (type(value), *((name, _form(each)) for name, each in vars(value).items()))
        case list():
            return tuple(map(_form, value))
        case str() | timedelta():
            return type(value)
        case Mapping():
            return tuple(map(_form, value.values()))
    return (type(value), value)
