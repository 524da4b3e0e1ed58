"""Azure OpenAI and Azure AI Foundry: OpenAI's formats at three kinds of address.

- `base_url: https://NAME.openai.azure.com`, without `api_version`: the v1 API, whose paths are OpenAI's own.
- the same with `api_version`: a deployment in the path, and the version in every query.
- `base_url: https://NAME.services.ai.azure.com/models` with `api_version`: the model in the body, the version in the
  query.

The model of a candidate is the name of a deployment. The credential is a key in `api-key`, or an Entra token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import quote

from ..errors import BadRequest
from ..model.call import Operation
from ..model.host import HostProfile
from .base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import HeaderKey
from .credentials.base import Credential, UnsignedRequest
from .openai import OPENAI, OPENAI_HOST, OpenAIKind

# Azure's paths below a deployment. Responses, files and batches have paths beside the deployments.
_OF_A_DEPLOYMENT = ("/audio/", "/chat/completions", "/completions", "/embeddings", "/images/")

# Which of the tools of OpenAI a deployment has is not known.
AZURE_HOST = replace(OPENAI_HOST, hosted_tools=frozenset())


@dataclass(frozen=True, slots=True)
class AzureProvider:
    settings: ProviderSettings
    credential: Credential | None
    kind: str = "azure"
    price_list: str = "azure"
    profile: HostProfile = AZURE_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # the name of a deployment says nothing about its formats
        return OPENAI.get(operation, ())

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        path = self._path(call)
        unsigned = UnsignedRequest(call.method, self.settings.authority, path, call.body)
        headers = self.credential.headers(unsigned) if self.credential is not None else ()
        return UpstreamRequest(path, headers, (), call.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""

    def _path(self, call: UpstreamCall) -> str:
        version = self.settings.options.get("api_version")
        base = base_path(self.settings.base_url)
        if base.endswith(("/models", "/v1")):
            return _versioned(base + call.path, version)
        base = base.removesuffix("/openai") + "/openai"
        if version is None:
            return f"{base}/v1{call.path}"
        if call.model and call.path.startswith(_OF_A_DEPLOYMENT):
            base += f"/deployments/{_segment(call.model)}"
        return _versioned(base + call.path, version)


def _segment(model: str) -> str:
    if model in (".", ".."):
        raise BadRequest(f"{model!r} is not a valid name of a deployment", param="model")
    return quote(model, safe="")


def _versioned(path: str, version: str | None) -> str:
    """The path with the API version added to its query."""
    if version is None:
        return path
    return f"{path}{'&' if '?' in path else '?'}api-version={quote(version, safe='')}"


class AzureKind(ProviderKind):
    apis = OpenAIKind.apis
    credentials: Mapping[str, str] = MappingProxyType({"azure": "cognitiveservices"})
    options = frozenset({"api_version"})
    gen_ai_provider = "azure.ai.openai"

    def build(self, settings: ProviderSettings) -> AzureProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = HeaderKey("api-key", settings.api_key)
        return AzureProvider(settings, credential, profile=settings.profile(AZURE_HOST))


PLUGIN: ProviderKind = AzureKind()
