"""Paths of Azure OpenAI's API that name the model: /openai/deployments/{model}/chat/completions and the like."""

from __future__ import annotations

from ..codecs import json_splice, multipart
from ..codecs.content_type import media_type
from ..codecs.json_values import encode
from ..errors import BadRequest
from .reading import model_in_path

ROOT = "/openai/deployments/{model}"
_BEFORE = "/openai/deployments/"
_LONGEST_MODEL = 256


def with_model_of_path(raw: bytes, path: str, content_type: str = "application/json") -> bytes:
    """The body with the model of the path, which replaces one in the body, as at Azure. Unchanged for a path that names
    no model. `content_type`: of an object or a form. Raises BadRequest."""
    if not path.startswith(_BEFORE):
        return raw
    model = model_in_path(path.removeprefix(_BEFORE).partition("/")[0], _LONGEST_MODEL)
    try:
        if media_type(content_type) == "multipart/form-data":
            return multipart.with_field(raw, content_type, "model", model.encode())
        return json_splice.splice(raw, {"model": encode(model)})
    except ValueError as error:
        raise BadRequest(f"the body cannot be read: {error}") from error


def operation_of(path: str) -> str | None:
    """OpenAI's path of the operation, without a version and without the query, which has only Azure's version. None:
    the path names no deployment."""
    if not path.startswith(_BEFORE):
        return None
    return "/" + path.removeprefix(_BEFORE).partition("?")[0].partition("/")[2]
