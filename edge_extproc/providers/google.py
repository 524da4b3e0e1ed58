"""Google's AI Studio: the Gemini API with a key in x-goog-api-key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from ..model.host import UNKNOWN_HOST, HostProfile
from .base import HostAddress, ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path

_FORMATS: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": ("gemini_generate",), "count_tokens": ("gemini_count",), "embeddings": ("gemini_embeddings",)}
)


@dataclass(frozen=True, slots=True)
class GoogleProvider:
    settings: ProviderSettings
    kind: str = "google"
    price_list: str = "google"
    profile: HostProfile = UNKNOWN_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # all models of this host speak alike
        return _FORMATS.get(operation, ())

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("x-goog-api-key", key()),) if key is not None else ()
        return UpstreamRequest(base_path(self.settings.base_url) + asked.path, credential, (), asked.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class GoogleKind:
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis: Mapping[str, str] = MappingProxyType({"gemini": "gemini_generate"})

    def build(self, settings: ProviderSettings) -> GoogleProvider:
        return GoogleProvider(settings)


PLUGIN: ProviderKind = GoogleKind()
