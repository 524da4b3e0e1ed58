"""A kind of provider: a host that speaks `example_talk`, with its key and its room in headers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_extproc.model.call import Operation
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers.base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from edge_extproc.providers.credentials.base import UnsignedRequest


@dataclass(frozen=True, slots=True)
class ExampleProvider:
    settings: ProviderSettings
    kind: str = "example"
    price_list: str = ""
    profile: HostProfile = UNKNOWN_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model
        return ("example_talk",) if operation == "chat" else ()

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        key = self.settings.api_key
        headers = [("x-example-room", self.settings.options["room"])]
        if key is not None:
            headers.append(("x-example-key", key()))
        path = base_path(self.settings.base_url) + asked.path
        if self.settings.credential is not None:
            headers += self.settings.credential.headers(UnsignedRequest("POST", "example", path, asked.body))
        return UpstreamRequest(path, tuple(headers), (), asked.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """The host adds no framing."""


class ExampleKind(ProviderKind):
    apis: Mapping[str, str] = MappingProxyType({"talk": "example_talk"})
    options = frozenset({"room"})
    required_options = ("room",)
    credentials: Mapping[str, str] = MappingProxyType({"example_ticket": "talk"})
    gen_ai_provider = "example.talk"

    def build(self, settings: ProviderSettings) -> ExampleProvider:
        return ExampleProvider(settings)


PLUGIN = ExampleKind()
