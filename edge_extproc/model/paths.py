"""Paths of operations that are forwarded without translation."""

from collections.abc import Mapping
from types import MappingProxyType

# The body names a model (optional for moderations), and the provider stores nothing that another caller could fetch.
BY_MODEL = (
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/generations",
    "/v1/images/variations",
    "/v1/moderations",
    "/v1/rerank",
    "/v2/rerank",
)

# The model of a request that names none, as at OpenAI.
DEFAULT_MODELS: Mapping[str, str] = MappingProxyType({"/v1/moderations": "omni-moderation-latest"})
