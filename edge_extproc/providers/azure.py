"""Azure OpenAI and Azure AI Foundry: OpenAI's formats at three kinds of address.

- `base_url: https://NAME.openai.azure.com`, without `api_version`: the v1 API, whose paths are OpenAI's own.
- the same with `api_version`: a deployment in the path, and the version in every query.
- `base_url: https://NAME.services.ai.azure.com/models` with `api_version`: the model in the body, the version in the
  query.

The model of a candidate is the name of a deployment. Proof is a key in `api-key`, or a token of Entra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from ..errors import BadRequest
from ..model.call import Operation
from ..model.host import HostProfile
from .base import HostAddress, ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import HeaderKey
from .credentials.base import Credential, NoCredential
from .openai import OPENAI, OPENAI_HOST, OpenAIKind

# What Azure serves below a deployment; responses, files and batches stand beside the deployments.
_OF_A_DEPLOYMENT = ("/audio/", "/chat/completions", "/completions", "/embeddings", "/images/")


@dataclass(frozen=True, slots=True)
class AzureProvider:
    settings: ProviderSettings
    credential: Credential | None
    kind: str = "azure"
    price_list: str = "azure"
    profile: HostProfile = OPENAI_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        del model  # a deployment's name tells nothing; a model that takes no responses says so itself
        return OPENAI.get(operation, ())

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        path = self._path(asked)
        unproven = NoCredential(asked.method, self.settings.authority, path, asked.body)
        headers = self.credential.headers(unproven) if self.credential is not None else ()
        return UpstreamRequest(path, headers, (), asked.body)

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""

    def _path(self, asked: UpstreamCall) -> str:
        version = self.settings.options.get("api_version")
        base = base_path(self.settings.base_url)
        if base.endswith(("/models", "/v1")):
            return _versioned(base + asked.path, version)
        base = base.removesuffix("/openai") + "/openai"
        if version is None:
            return f"{base}/v1{asked.path}"
        if asked.model and asked.path.startswith(_OF_A_DEPLOYMENT):
            base += f"/deployments/{_segment(asked.model)}"
        return _versioned(base + asked.path, version)


def _segment(model: str) -> str:
    if model in (".", ".."):
        raise BadRequest(f"{model!r} is no name of a deployment", param="model")
    return quote(model, safe="")


def _versioned(path: str, version: str | None) -> str:
    """A query that is there stays."""
    if version is None:
        return path
    return f"{path}{'&' if '?' in path else '?'}api-version={quote(version, safe='')}"


class AzureKind:
    default_base_url = None
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis = OpenAIKind.apis
    credentials: Mapping[str, str] = MappingProxyType({"azure": "cognitiveservices"})
    options = frozenset({"api_version"})

    def build(self, settings: ProviderSettings) -> AzureProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = HeaderKey("api-key", settings.api_key)
        return AzureProvider(settings, credential)


PLUGIN: ProviderKind = AzureKind()
