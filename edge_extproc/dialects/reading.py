"""What the request readers of several dialects share: errors of unreadable bodies, models in a path, and messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import unquote

from ..codecs.json_values import as_object, as_text, maybe_bool, maybe_int, read_body, rest_of
from ..errors import BadRequest
from ..model.content import NO_EXTRAS, Json, Message, Part, Role


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


_UNSAFE_IN_MODEL = re.compile(r"[\x00-\x20\x7f\\?#]")


def is_unsafe(model: str) -> bool:
    """Whether a model's name could change the path that it is written into."""
    return _UNSAFE_IN_MODEL.search(model) is not None or any(step in ("", ".", "..") for step in model.split("/"))


def model_in_path(escaped: str, longest: int) -> str:
    """The name of a model from a path. Raises BadRequest."""
    try:
        model = unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the model in the path is not valid UTF-8", param="model") from None
    if is_unsafe(model) or len(model) > longest:
        raise BadRequest(f"the model in the path is not valid: {model[:longest]!r}", param="model")
    return model


_ROLES: Mapping[str, Role] = MappingProxyType({"user": "user", "assistant": "assistant", "system": "system"})
_MESSAGE = frozenset({"role", "content"})


def read_messages(values: list[Json], read_content: Callable[[Json, str], tuple[Part, ...]]) -> list[Message]:
    """The messages of Anthropic's Messages or Bedrock's Converse. Raises BadRequest."""
    messages: list[Message] = []
    for number, value in enumerate(values):
        path = f"messages[{number}]"
        if isinstance(value, dict) and len(value) == 2 and "content" in value:
            match value.get("role"):
                case "user" | "assistant" as role:  # most of a long history
                    parts = read_content(value["content"], f"{path}.content")
                    messages.append(Message(role, parts, None, NO_EXTRAS, path))
                    continue
        messages.append(_read_message(value, path, read_content))
    return messages


def _read_message(value: Json, path: str, read_content: Callable[[Json, str], tuple[Part, ...]]) -> Message:
    message = as_object(value, path)
    role = _ROLES.get(as_text(message.get("role"), f"{path}.role"))
    if role is None:
        raise BadRequest(
            f"{path}.role is {message['role']!r}; it must be user, assistant or system", param=f"{path}.role"
        )
    parts = read_content(message.get("content"), f"{path}.content")
    return Message(role, parts, extras=rest_of(message, _MESSAGE), path=path)
