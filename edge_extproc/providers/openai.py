"""OpenAI, and any host with the same API: a bearer key and the chat completions format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import urlsplit

from ..model.call import Operation
from ..model.default_provider import DefaultProvider
from ..model.host import HostProfile
from .base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from .quirks import NO_QUIRKS, Quirks

Formats: TypeAlias = Mapping[Operation, tuple[str, ...]]

CHAT_ONLY: Formats = MappingProxyType(
    {
        "chat": ("openai_chat",),
        "embeddings": ("openai_embeddings",),
        "completions": ("openai_completions",),
        "passed": ("passed",),
    }
)
"""The operations that are sent to every compatible host. A host that lacks one answers with an error."""
# OpenAI refuses a user of more than 64 characters (`string_above_max_length`; see also maximhq/bifrost#1000). It is
# assumed that it refuses reasoning in an assistant message. This is safe, because its models cannot use it.
OPENAI_HOST = HostProfile(
    user_limit=64,
    strict_ids=True,
    thoughts="refused",
    refusals=True,
    any_arguments=True,
    developer_role=True,
    stores_replies=True,
    hosted_tools=frozenset({"web_search", "code_execution"}),
)
# For another address: a proxy of OpenAI or another host. It gets what both accept: short ids, no role `developer`, and
# the reasoning of callers with the same dialect.
OPENAI_PROXY = HostProfile(user_limit=64, strict_ids=True)
OPENAI: Formats = MappingProxyType({**CHAT_ONLY, "chat": ("openai_chat", "openai_responses")})


@dataclass(frozen=True, slots=True)
class OpenAIProvider:
    settings: ProviderSettings
    kind: str = "openai"
    price_list: str = "openai"
    operations: Formats = field(default_factory=lambda: OPENAI)
    """The wire formats of each operation."""
    profile: HostProfile = OPENAI_HOST
    quirks: Quirks = NO_QUIRKS

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # all models of this host speak alike
        return self.operations.get(operation, ())

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        credential = (("authorization", f"Bearer {key()}"),) if key is not None else ()
        body: bytes = call.body
        dropped: tuple[str, ...] = ()
        if call.dialect == "openai_chat":
            body, dropped = self.quirks.adapt(body, system_only=not self.profile.developer_role)
        elif call.dialect == "openai_responses":
            body = self.quirks.adapt_input(body, system_only=not self.profile.developer_role)
        return UpstreamRequest(base_path(self.settings.base_url) + call.path, credential, (), body, dropped)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""


class OpenAIKind(ProviderKind):
    has_sockets = True
    models_path = "/models"
    default_base_url = "https://api.openai.com/v1"
    apis: Mapping[str, str] = MappingProxyType({"chat": "openai_chat", "responses": "openai_responses"})
    profiles: Mapping[str, HostProfile] = MappingProxyType({"openai": OPENAI_HOST})
    default = DefaultProvider(
        order=1,
        keys=("OPENAI_API_KEY",),
        chat="gpt-4o-mini",
        embedding="text-embedding-3-small",
        models=(
            *("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini"),
            *("o3", "o4-mini", "text-embedding-3-small", "text-embedding-3-large"),
            *("gpt-image-1", "gpt-4o-mini-tts", "tts-1", "gpt-4o-mini-transcribe", "whisper-1"),
            "omni-moderation-latest",
        ),
        families=(
            *("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "text-embedding-*"),
            *("dall-e-*", "tts-*", "whisper-*", "omni-moderation-*"),
        ),
    )

    def build(self, settings: ProviderSettings) -> OpenAIProvider:
        known = OPENAI_HOST if is_openai(settings.base_url) else OPENAI_PROXY
        return OpenAIProvider(settings, profile=settings.profile(known))


def is_openai(base_url: str) -> bool:
    """Whether an address is OpenAI's own, including its regional hosts."""
    return f".{urlsplit(base_url).hostname or ''}".endswith(".openai.com")


PLUGIN: ProviderKind = OpenAIKind()
