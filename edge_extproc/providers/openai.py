"""OpenAI itself, and any host that is called just like it: a bearer key and the chat completions format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.call import Operation
from .base import Host, ProviderSettings, UpstreamRequest, base_path


@dataclass(frozen=True, slots=True)
class OpenAI:
    settings: ProviderSettings
    kind: str = "openai"
    price_list: str = "openai"
    dialect: str = "openai_chat"

    @property
    def name(self) -> str:
        return self.settings.name

    def request(self, operation: Operation, path: str, body: bytes) -> UpstreamRequest:
        del operation  # every operation of this host lies below one base path
        key = self.settings.api_key
        credential = (("authorization", f"Bearer {key()}"),) if key is not None else ()
        return UpstreamRequest(base_path(self.settings.base_url) + path, credential, (), body)


class OpenAIKind:
    default_base_url = "https://api.openai.com/v1"
    needs_key = True
    hosts: Mapping[str, Host] = MappingProxyType({})

    def build(self, settings: ProviderSettings) -> OpenAI:
        return OpenAI(settings)


PLUGIN = OpenAIKind()
