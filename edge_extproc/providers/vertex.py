"""Google's Vertex AI: Gemini in Google's own format, Claude in Anthropic's, and text embeddings.

The model stands in the path. Claude's body is Anthropic's without the model and with a version of its own; all other
bytes of it stay. Proof is a token of Google's, or (express mode, without a project) an API key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import quote

import msgspec

from ..codecs import json_splice
from ..dialects.claude import generation_of
from ..errors import BadRequest, Unsupported
from ..model.call import Operation
from ..model.host import UNKNOWN_HOST, HostProfile
from . import anthropic_betas
from .base import HostAddress, ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import HeaderKey
from .credentials.base import Credential, NoCredential

GEMINI = "gemini_generate"
ANTHROPIC = "anthropic_messages"

# The only version that Google's and Anthropic's pages on Claude at Vertex name.
ANTHROPIC_VERSION = "vertex-2023-10-16"

_GEMINIS: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": (GEMINI,), "count_tokens": ("vertex_count",), "embeddings": ("vertex_embeddings",)}
)
_CLAUDES: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": (ANTHROPIC,), "count_tokens": ("anthropic_count",)}
)
# gemini-embedding-2 and later are no predict models.
_EMBEDS_CONTENT = re.compile(r"gemini-embedding-(?!0)\d")
# Counting takes a dated version, and none of the floating ones.
_FLOATING = re.compile(r"@(?:default|latest)$")


@dataclass(frozen=True, slots=True)
class VertexProvider:
    settings: ProviderSettings
    credential: Credential | None
    kind: str = "vertex"
    price_list: str = "google"
    profile: HostProfile = UNKNOWN_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        if operation == "embeddings" and _EMBEDS_CONTENT.match(model):
            return ("gemini_embeddings",)
        return (_CLAUDES if _is_claude(model) else _GEMINIS).get(operation, ())

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        claude = asked.dialect in (ANTHROPIC, "anthropic_count")
        dropped: tuple[str, ...] = ()
        betas: tuple[tuple[str, str], ...] = ()
        if claude:
            asked, betas, dropped = _known_betas(asked)
        place, body = _claude(asked) if claude else _google(asked)
        path = base_path(self.settings.base_url) + self._root() + place
        unproven = NoCredential(asked.method, self.settings.authority, path, body)
        headers = self.credential.headers(unproven) if self.credential is not None else ()
        return UpstreamRequest(path, (*headers, *betas), (), body, dropped, ("anthropic-beta",) if claude else ())

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""

    def _root(self) -> str:
        options = self.settings.options
        if "project" not in options:
            return "/publishers"
        return f"/projects/{options['project']}/locations/{options.get('region', 'global')}/publishers"


def _is_claude(model: str) -> bool:
    return "claude" in model.lower()


def _google(asked: UpstreamCall) -> tuple[str, bytes]:
    if ":batchEmbedContents" in asked.path:
        raise Unsupported("input", "Vertex AI", f"{asked.model} embeds one text a request")
    return f"/google{asked.path}", asked.body


class _Betas(msgspec.Struct):
    anthropic_beta: list[str] = []


def _known_betas(asked: UpstreamCall) -> tuple[UpstreamCall, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The request without the flags that Vertex AI refuses and what they bring, the header for those that it takes, and
    the names of what stays behind."""
    known = anthropic_betas.VERTEX_COUNT if asked.operation == "count_tokens" else anthropic_betas.VERTEX
    try:
        given = tuple(msgspec.json.decode(asked.body, type=_Betas).anthropic_beta)
    except msgspec.ValidationError:
        raise BadRequest("anthropic_beta must be a list of flags", param="anthropic_beta") from None
    flags = tuple(dict.fromkeys((*asked.betas, *given)))
    kept, dropped = anthropic_betas.split(flags, known)
    changes, lost = anthropic_betas.without_fields(
        asked.body, flags, kept, has_effort=bool(generation_of(asked.model).efforts)
    )
    if given:
        in_body, _ = anthropic_betas.split(given, known)
        changes["anthropic_beta"] = msgspec.json.encode(in_body) if in_body else None
    header, _ = anthropic_betas.split(asked.betas, known)
    body = json_splice.splice(asked.body, changes) if changes else asked.body
    return replace(asked, body=body), tuple(anthropic_betas.beta_header(header)), (*dropped, *lost)


def _claude(asked: UpstreamCall) -> tuple[str, bytes]:
    version: dict[str, json_splice.Change] = {"anthropic_version": msgspec.json.encode(ANTHROPIC_VERSION)}
    if asked.operation == "count_tokens":
        version["model"] = msgspec.json.encode(_FLOATING.sub("", asked.model))
        return "/anthropic/models/count-tokens:rawPredict", json_splice.splice(asked.body, version)
    if asked.model in (".", ".."):
        raise BadRequest(f"{asked.model!r} is no name of a model", param="model")
    verb = "streamRawPredict" if asked.stream else "rawPredict"
    body = json_splice.splice(asked.body, {**version, "model": None})
    return f"/anthropic/models/{quote(asked.model, safe='@')}:{verb}", body


class VertexKind:
    default_base_url = "https://{region}-aiplatform.googleapis.com/v1"
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis: Mapping[str, str] = MappingProxyType({"gemini": GEMINI, "claude": ANTHROPIC})
    credentials: Mapping[str, str] = MappingProxyType({"google": "aiplatform"})
    options = frozenset({"project"})
    needed_with_credential = ("project", "region")

    def build(self, settings: ProviderSettings) -> VertexProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = HeaderKey("x-goog-api-key", settings.api_key)
        return VertexProvider(settings, credential)


PLUGIN: ProviderKind = VertexKind()
