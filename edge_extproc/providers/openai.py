"""OpenAI itself, and any host that is called just like it: a bearer key and the chat completions format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from ..model.call import Operation
from ..model.host import HostProfile
from .base import HostAddress, ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path

Formats: TypeAlias = Mapping[Operation, tuple[str, ...]]

CHAT_ONLY: Formats = MappingProxyType(
    {
        "chat": ("openai_chat",),
        "embeddings": ("openai_embeddings",),
        "completions": ("openai_completions",),
        "passed": ("passed",),
    }
)
"""What every host that calls itself compatible may be asked; it says itself what of it is not there."""
# OpenAI's API reference: user and safety_identifier have at most 64 characters (`string_above_max_length`), and a
# message of the assistant has no field for reasoning.
OPENAI_HOST = HostProfile(user_limit=64, strict=True, thoughts="refused")
OPENAI: Formats = MappingProxyType({**CHAT_ONLY, "chat": ("openai_chat", "openai_responses")})


@dataclass(frozen=True, slots=True)
class OpenAIProvider:
    settings: ProviderSettings
    kind: str = "openai"
    price_list: str = "openai"
    spoken: Formats = field(default_factory=lambda: OPENAI)
    profile: HostProfile = OPENAI_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # all models of this host speak alike
        return self.spoken.get(operation, ())

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("authorization", f"Bearer {key()}"),) if key is not None else ()
        return UpstreamRequest(base_path(self.settings.base_url) + asked.path, credential, (), asked.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class OpenAIKind:
    default_base_url = "https://api.openai.com/v1"
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis: Mapping[str, str] = MappingProxyType({"chat": "openai_chat", "responses": "openai_responses"})

    def build(self, settings: ProviderSettings) -> OpenAIProvider:
        return OpenAIProvider(settings)


PLUGIN: ProviderKind = OpenAIKind()
