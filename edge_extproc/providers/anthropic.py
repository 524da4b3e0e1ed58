"""Anthropic's own host: the key in x-api-key, and a version header that every request must carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from .base import Host, ProviderSettings, UpstreamRequest, base_path

# The only version that Anthropic's API reference lists for the Messages format.
API_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Anthropic:
    settings: ProviderSettings
    kind: str = "anthropic"
    price_list: str = "anthropic"
    dialect: str = "anthropic_messages"

    @property
    def name(self) -> str:
        return self.settings.name

    def request(self, operation: Operation, path: str, body: bytes) -> UpstreamRequest:
        del operation  # every operation of this host lies below one base path
        key = self.settings.api_key
        credential = (("x-api-key", key()),) if key is not None else ()
        defaults = (("anthropic-version", API_VERSION),)
        return UpstreamRequest(base_path(self.settings.base_url) + path, credential, defaults, body)


class AnthropicKind:
    default_base_url = "https://api.anthropic.com/v1"
    needs_key = True
    hosts: Mapping[str, Host] = MappingProxyType({})

    def build(self, settings: ProviderSettings) -> Anthropic:
        return Anthropic(settings)


PLUGIN = AnthropicKind()
