"""Google's AI Studio: the Gemini API with a key in x-goog-api-key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from ..model.default_provider import DefaultProvider
from ..model.host import UNKNOWN_HOST, HostProfile
from .base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path

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
        # Paths of objects (files, caches, batches) name no model, or a resource. This API has no images or audio of
        # other APIs.
        if operation == "passed" and (not model or model.startswith("models/")):
            return ("passed",)
        return _FORMATS.get(operation, ())

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("x-goog-api-key", key()),) if key is not None else ()
        return UpstreamRequest(base_path(self.settings.base_url) + call.path, credential, (), call.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class GoogleKind(ProviderKind):
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"
    apis: Mapping[str, str] = MappingProxyType({"gemini": "gemini_generate"})
    gen_ai_provider = "gcp.gemini"
    default = DefaultProvider(
        order=3,
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        chat="gemini-2.5-flash",
        embedding="gemini-embedding-001",
        models=("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-embedding-001"),
        families=("gemini-*", "gemma-*"),
    )

    def build(self, settings: ProviderSettings) -> GoogleProvider:
        return GoogleProvider(settings, profile=settings.profile(UNKNOWN_HOST))


PLUGIN: ProviderKind = GoogleKind()
