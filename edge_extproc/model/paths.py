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

OF_DEPLOYMENTS = tuple(path for path in BY_MODEL if path.startswith(("/v1/audio/", "/v1/images/")))
"""Those that the Azure client has below the name of a deployment."""

# The model of a request that names none, as at OpenAI.
DEFAULT_MODELS: Mapping[str, str] = MappingProxyType({"/v1/moderations": "omni-moderation-latest"})

_TARGETS = frozenset(path.removeprefix("/v1").removeprefix("/v2") for path in BY_MODEL)


def is_by_model(target: str) -> bool:
    """Whether a path below the API's root, with its query, is one of BY_MODEL."""
    return target.partition("?")[0] in _TARGETS
