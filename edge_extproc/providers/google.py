"""Google's AI Studio: the Gemini API with a key in x-goog-api-key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from .base import Host, ProviderSettings, UpstreamRequest, base_path


@dataclass(frozen=True, slots=True)
class Google:
    settings: ProviderSettings
    kind: str = "google"
    price_list: str = "google"
    dialect: str = "gemini_generate"

    @property
    def name(self) -> str:
        return self.settings.name

    def request(self, operation: Operation, path: str, body: bytes) -> UpstreamRequest:
        del operation  # every operation of this host lies below one base path
        key = self.settings.api_key
        credential = (("x-goog-api-key", key()),) if key is not None else ()
        return UpstreamRequest(base_path(self.settings.base_url) + path, credential, (), body)


class GoogleKind:
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"
    needs_key = True
    hosts: Mapping[str, Host] = MappingProxyType({})

    def build(self, settings: ProviderSettings) -> Google:
        return Google(settings)


PLUGIN = GoogleKind()
