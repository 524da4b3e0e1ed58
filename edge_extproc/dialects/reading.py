"""Builds the error for a body whose fields for routing cannot be read. Readers of several dialects share it."""

from __future__ import annotations

from ..codecs.json_values import as_text, maybe_bool, maybe_int, read_body
from ..errors import BadRequest


def why_no_call(raw: bytes, *counts: str, otherwise: str = "the body cannot be read") -> BadRequest:
    """The fault of a body. Checks the model, the streaming flag and the whole numbers named in `counts`. `otherwise` is
    the message if these fields are valid."""
    try:
        body = read_body(raw)
        if "model" not in body:
            return BadRequest("model is missing: give the name of a model", param="model")
        as_text(body["model"], "model")
        maybe_bool(body.get("stream"), "stream")
        for name in counts:
            maybe_int(body.get(name), name)
    except BadRequest as exc:
        return exc
    return BadRequest(otherwise)
