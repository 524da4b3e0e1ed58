"""Anthropic's own host: the key in x-api-key, and a version header that every request must carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from ..model.host import UNKNOWN_HOST, HostProfile
from .anthropic_betas import beta_header
from .base import HostAddress, ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path

# The only version that Anthropic's API reference lists for the Messages format.
API_VERSION = "2023-06-01"


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

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("x-api-key", key()),) if key is not None else ()
        # Set again, since an earlier attempt may have taken flags away that its host did not know.
        betas = tuple(beta_header(asked.betas))
        defaults = (("anthropic-version", API_VERSION),)
        return UpstreamRequest(
            base_path(self.settings.base_url) + asked.path, (*credential, *betas), defaults, asked.body
        )

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class AnthropicKind:
    default_base_url = "https://api.anthropic.com/v1"
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis: Mapping[str, str] = MappingProxyType({"messages": "anthropic_messages"})

    def build(self, settings: ProviderSettings) -> AnthropicProvider:
        return AnthropicProvider(settings)


PLUGIN: ProviderKind = AnthropicKind()
