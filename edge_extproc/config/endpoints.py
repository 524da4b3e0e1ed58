"""Passthrough paths: their provider, and the tenants that may use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from .part import ConfigSection, Label, Text, frozen, thawed
from .quantities import Boolean
from .wrong import wrong


class EndpointConfig(ConfigSection):
    """A provider's name alone is short for {provider: name}."""

    provider: Text
    tenants: tuple[Label, ...] | None = None
    """The tenants that may call; default: all."""
    shared: Boolean = False
    """The objects of the path are the same for all tenants, such as a list of voices. false: each tenant has only the
    objects that it made."""


def _short(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


def _path(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._-]+)+", value) or not value.startswith("/v"):
        raise wrong("this is not a path of an API", "write it as callers do, without a slash at its end: /v1/files")
    return value


EndpointPath = Annotated[Text, AfterValidator(_path)]
Endpoints = Annotated[
    Mapping[EndpointPath, Annotated[EndpointConfig, BeforeValidator(_short)]],
    AfterValidator(frozen),
    PlainSerializer(thawed),
]
