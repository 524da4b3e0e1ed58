"""What the request readers of several dialects share: errors of unreadable bodies, models in a path, and messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import unquote

from ..codecs.json_values import as_object, as_text, maybe_bool, maybe_int, read_members, rest_of
from ..errors import BadRequest
from ..model.content import NO_EXTRAS, Json, Message, Part, Role, Text
from .places import places


def why_no_call(raw: bytes, *counts: str, otherwise: str = "the body cannot be read") -> BadRequest:
    """The fault of a body. Checks the model, the streaming flag and the whole numbers named in `counts`. `otherwise` is
    the message if these fields are valid."""
    try:
        body = read_members(raw, ("model", "stream", *counts))
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
_PLAIN_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant"}


def read_messages(
    values: list[Json], read_content: Callable[[Json, str], tuple[Part, ...]], kind: str | None
) -> list[Message]:
    """The messages of Anthropic's Messages or Bedrock's Converse. `kind`: the type of a block with text; None: the
    blocks of the format have no type. Raises BadRequest."""
    messages: list[Message] = []
    members = 1 if kind is None else 2
    for value, (path, where) in zip(values, places("messages", "content[0]", len(values)), strict=False):
        if (
            isinstance(value, dict)
            and len(value) == 2
            and "content" in value
            and isinstance(name := value.get("role"), str)
            and (role := _PLAIN_ROLES.get(name)) is not None
        ):  # most of a long history
            content = value["content"]
            block = content[0] if isinstance(content, list) and len(content) == 1 else None
            if (
                isinstance(block, dict)
                and len(block) == members
                and isinstance(text := block.get("text"), str)
                and block.get("type") == kind
            ):
                parts: tuple[Part, ...] = (Text(text, None, NO_EXTRAS, where),)
            else:
                parts = read_content(content, f"{path}.content")
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
