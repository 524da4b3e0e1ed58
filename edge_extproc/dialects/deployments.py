"""Paths of Azure OpenAI's API that name the model: /openai/deployments/{model}/chat/completions and the like."""

from __future__ import annotations

from ..codecs import json_splice
from ..codecs.json_values import encode
from ..errors import BadRequest
from .reading import model_in_path

ROOT = "/openai/deployments/{model}"
_BEFORE = "/openai/deployments/"
_LONGEST_MODEL = 256


def with_model_of_path(raw: bytes, path: str) -> bytes:
    """The body with the model of the path, which replaces one in the body, as at Azure. Unchanged for a path that names
    no model. Raises BadRequest."""
    if not path.startswith(_BEFORE):
        return raw
    model = model_in_path(path.removeprefix(_BEFORE).partition("/")[0], _LONGEST_MODEL)
    try:
        return json_splice.splice(raw, {"model": encode(model)})
    except ValueError as error:
        raise BadRequest(f"the body cannot be read: {error}") from error
