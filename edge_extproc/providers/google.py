"""Google's AI Studio: the Gemini API with a key in x-goog-api-key."""

from __future__ import annotations

import re
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


_SOCKETS = "/ws/"
_VERSION = re.compile(r"/v1(?:alpha|beta)?$")


GEMINI_HOST = HostProfile(hosted_tools=frozenset({"web_search", "web_fetch", "code_execution"}))


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
        base = base_path(self.settings.base_url)
        if call.path.startswith(_SOCKETS):  # the version is in this path
            base = _VERSION.sub("", base)
        return UpstreamRequest(base + call.path, credential, (), call.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class GoogleKind(ProviderKind):
    models_path = "/models"
    has_sockets = True
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"
    apis: Mapping[str, str] = MappingProxyType({"gemini": "gemini_generate"})
    gen_ai_provider = "gcp.gemini"
    default = DefaultProvider(
        order=3,
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        chat="gemini-2.5-flash",
        embedding="gemini-embedding-001",
        models=(
            *("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-flash-image"),
            "gemini-embedding-001",
        ),
        families=("gemini-*", "gemma-*"),
    )

    def build(self, settings: ProviderSettings) -> GoogleProvider:
        return GoogleProvider(settings, profile=settings.profile(GEMINI_HOST))


PLUGIN: ProviderKind = GoogleKind()
