"""Google's Vertex AI: Gemini in Google's own format, Claude in Anthropic's, and text embeddings.

The model is in the path. Claude's body is Anthropic's, without the model and with another version field; all other
bytes are unchanged. The credential is a Google token or, in express mode (without a project), an API key.
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
from .base import ProviderKind, ProviderSettings, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import HeaderKey
from .credentials.base import Credential, UnsignedRequest

GEMINI = "gemini_generate"
ANTHROPIC = "anthropic_messages"

# The only version in Google's and Anthropic's documentation of Claude on Vertex AI.
ANTHROPIC_VERSION = "vertex-2023-10-16"

_GEMINIS: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": (GEMINI,), "count_tokens": ("vertex_count",), "embeddings": ("vertex_embeddings",)}
)
_CLAUDES: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {"chat": (ANTHROPIC,), "count_tokens": ("anthropic_count",)}
)
# gemini-embedding-2 and later do not use `predict`.
_EMBEDS_CONTENT = re.compile(r"gemini-embedding-(?!0)\d")
# Token counting accepts only dated versions.
_FLOATING = re.compile(r"@(?:default|latest)$")


# Claude has no other of these tools there (see anthropic_betas.py), and a provider has one profile for both formats.
VERTEX_HOST = HostProfile(hosted_tools=frozenset({"web_search"}))


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
        return (_CLAUDES if _is_claude(self.profile.known_as(model)) else _GEMINIS).get(operation, ())

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        is_claude = call.dialect in (ANTHROPIC, "anthropic_count")
        dropped: tuple[str, ...] = ()
        betas: tuple[tuple[str, str], ...] = ()
        if is_claude:
            call, betas, dropped = _known_betas(call, self.profile.known_as(call.model))
        place, body = _claude(call) if is_claude else _google(call)
        path = base_path(self.settings.base_url) + self._root() + place
        unsigned = UnsignedRequest(call.method, self.settings.authority, path, body)
        headers = self.credential.headers(unsigned) if self.credential is not None else ()
        return UpstreamRequest(path, (*headers, *betas), (), body, dropped, ("anthropic-beta",) if is_claude else ())

    def unframe(self, dialect: str, content_type: str) -> None:
        """Streams of this host are plain."""

    def _root(self) -> str:
        options = self.settings.options
        if "project" not in options:
            return "/publishers"
        return f"/projects/{options['project']}/locations/{options.get('region', 'global')}/publishers"


def _is_claude(model: str) -> bool:
    return "claude" in model.lower()


def _google(call: UpstreamCall) -> tuple[str, bytes]:
    if ":batchEmbedContents" in call.path:
        raise Unsupported("input", "Vertex AI", f"{call.model} accepts one text in a request")
    return f"/google{call.path}", call.body


class _Betas(msgspec.Struct):
    anthropic_beta: list[str] = []


def _known_betas(
    call: UpstreamCall, known_as: str
) -> tuple[UpstreamCall, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Removes the flags that Vertex AI refuses, with their fields. Returns the changed call, the header of the accepted
    flags, and the names of what was removed."""
    known = anthropic_betas.VERTEX_COUNT if call.operation == "count_tokens" else anthropic_betas.VERTEX
    try:
        betas = tuple(msgspec.json.decode(call.body, type=_Betas).anthropic_beta)
    except msgspec.ValidationError:
        raise BadRequest("anthropic_beta must be a list of flags", param="anthropic_beta") from None
    flags = tuple(dict.fromkeys((*call.betas, *betas)))
    accepted, dropped = anthropic_betas.split(flags, known)
    changes, omitted = anthropic_betas.without_fields(
        call.body, flags, accepted, has_effort=bool(generation_of(known_as).efforts)
    )
    lines, billing_lines = anthropic_betas.without_billing(call.body)
    changes = {**lines, **changes}
    if betas:
        in_body, _ = anthropic_betas.split(betas, known)
        changes["anthropic_beta"] = msgspec.json.encode(in_body) if in_body else None
    header, _ = anthropic_betas.split(call.betas, known)
    body = json_splice.splice(call.body, changes) if changes else call.body
    return replace(call, body=body), tuple(anthropic_betas.beta_header(header)), (*dropped, *billing_lines, *omitted)


def _claude(call: UpstreamCall) -> tuple[str, bytes]:
    version: dict[str, json_splice.Change] = {"anthropic_version": msgspec.json.encode(ANTHROPIC_VERSION)}
    if call.operation == "count_tokens":
        version["model"] = msgspec.json.encode(_FLOATING.sub("", call.model))
        return "/anthropic/models/count-tokens:rawPredict", json_splice.splice(call.body, version)
    if call.model in (".", ".."):
        raise BadRequest(f"{call.model!r} is not a valid name of a model", param="model")
    verb = "streamRawPredict" if call.stream else "rawPredict"
    body = json_splice.splice(call.body, {**version, "model": None})
    return f"/anthropic/models/{quote(call.model, safe='@')}:{verb}", body


class VertexKind(ProviderKind):
    default_base_url = "https://{region}-aiplatform.googleapis.com/v1"
    apis: Mapping[str, str] = MappingProxyType({"gemini": GEMINI, "claude": ANTHROPIC})
    credentials: Mapping[str, str] = MappingProxyType({"google": "aiplatform"})
    options = frozenset({"project", "region"})
    required_with_credential = ("project", "region")
    gen_ai_provider = "gcp.vertex_ai"

    def address_template(self, options: Mapping[str, str]) -> str:
        """The global host has no prefix. Express mode (no project) uses it unless a region is given."""
        region = options.get("region")
        if region == "global" or (region is None and "project" not in options):
            return self.default_base_url.replace("{region}-", "")
        return self.default_base_url

    def build(self, settings: ProviderSettings) -> VertexProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = HeaderKey("x-goog-api-key", settings.api_key)
        return VertexProvider(settings, credential, profile=settings.profile(VERTEX_HOST))


PLUGIN: ProviderKind = VertexKind()
