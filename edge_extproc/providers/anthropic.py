"""Anthropic's own host: the key is in x-api-key, and every request needs a version header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import urlsplit

from ..codecs import json_splice
from ..model.call import Operation
from ..model.default_provider import DefaultProvider
from ..model.host import UNKNOWN_HOST, HostProfile
from .anthropic_betas import beta_header, without_billing
from .base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path

# The only version that Anthropic's API reference lists for the Messages format.
API_VERSION = "2023-06-01"
ANTHROPIC_HOST = HostProfile(hosted_tools=frozenset({"web_search", "web_fetch", "code_execution"}))


_FORMATS: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": ("anthropic_messages",), "count_tokens": ("anthropic_count",), "passed": ("passed",)}
)


@dataclass(frozen=True, slots=True)
class AnthropicProvider:
    settings: ProviderSettings
    kind: str = "anthropic"
    price_list: str = "anthropic"
    profile: HostProfile = UNKNOWN_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # all models of this host speak alike
        return _FORMATS.get(operation, ())

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("x-api-key", key()),) if key is not None else ()
        # Set again, because an earlier attempt may have removed flags that its host does not know.
        betas = tuple(beta_header(call.betas))
        defaults = (("anthropic-version", API_VERSION),)
        path, body = base_path(self.settings.base_url) + call.path, call.body
        dropped: tuple[str, ...] = ()
        if not is_anthropic(self.settings.base_url):
            changes, dropped = without_billing(body)
            body = json_splice.splice(body, changes) if changes else body
        return UpstreamRequest(path, (*credential, *betas), defaults, body, dropped)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


@lru_cache
def is_anthropic(base_url: str) -> bool:
    """Whether an address is Anthropic's own. Other hosts and proxies speak its format too."""
    return f".{urlsplit(base_url).hostname or ''}".endswith(".anthropic.com")


class AnthropicKind(ProviderKind):
    models_path = "/models"
    default_base_url = "https://api.anthropic.com/v1"
    apis: Mapping[str, str] = MappingProxyType({"messages": "anthropic_messages"})
    default = DefaultProvider(
        order=2,
        keys=("ANTHROPIC_API_KEY",),
        chat="claude-haiku-4-5",
        embedding=None,
        models=("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"),
        families=("claude-*",),
    )

    def build(self, settings: ProviderSettings) -> AnthropicProvider:
        known = ANTHROPIC_HOST if is_anthropic(settings.base_url) else UNKNOWN_HOST
        return AnthropicProvider(settings, profile=settings.profile(known))


PLUGIN: ProviderKind = AnthropicKind()
