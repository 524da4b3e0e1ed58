"""Paths that are only passed on: where they go, and for whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from .part import ConfigSection, Label, Text, frozen, thawed
from .wrong import wrong


class EndpointConfig(ConfigSection):
    """A provider's name alone is short for {provider: name}."""

    provider: Text
    tenants: tuple[Label, ...] | None = None
    """Who may call; all where not given. Files, batches and what else a provider stores belong to its account, so that
    tenants who share it see each other's."""


def _short(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


def _path(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._-]+)+", value) or not value.startswith("/v"):
        raise wrong("this is no path of an API", "write it as callers do, without a slash at its end: /v1/files")
    return value


EndpointPath = Annotated[Text, AfterValidator(_path)]
Endpoints = Annotated[
    Mapping[EndpointPath, Annotated[EndpointConfig, BeforeValidator(_short)]],
    AfterValidator(frozen),
    PlainSerializer(thawed),
]
