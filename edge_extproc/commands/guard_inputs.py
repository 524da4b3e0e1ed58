"""What `guard test` reads: texts, and calls as a caller would send them.

A call is a JSON body, or an exchange in the schema of tests/data/exchanges. The path of a body tells its API. Without a
path, the members of the body tell which of the chat formats it has.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StartError

_CHAT = "/v1/chat/completions"
_RESPONSES = "/v1/responses"
_MESSAGES = "/v1/messages"
# Anthropic's parts of a content; `text` is a part of other formats, too.
_ANTHROPIC_PARTS = frozenset(
    {
        "document",
        "image",
        "redacted_thinking",
        "search_result",
        "server_tool_use",
        "thinking",
        "tool_result",
        "tool_use",
    }
)


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text that is no call."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class CallInput:
    source: str
    path: str
    """With the query."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


def read_inputs(files: tuple[str, ...], path: str | None, *, as_text: bool, model: str | None) -> Iterator[Input]:
    """`files`: `-` is stdin. `path`: of all calls. `as_text`: each file is a text. `model`: for a format that has the
    model in the path. Raises StartError."""
    for name in files:
        raw = _read(name)
        if as_text:
            yield TextInput(name, raw.decode(errors="replace"))
            continue
        values = _objects(name, raw)
        for source, value, its in values:
            yield _call(source, value, its, path, model)
        if not values:
            yield CallInput(name, path, raw) if path is not None else TextInput(name, raw.decode(errors="replace"))


def _objects(name: str, raw: bytes) -> list[tuple[str, dict[str, Any], bytes]]:
    """The JSON object, or the objects with one in each line, with their bytes. Empty: it is neither."""
    value = _parsed(raw)
    if value is not None:
        return [(name, value, raw)]
    lines = [line for line in raw.splitlines() if line.strip()]
    values = [(f"{name}:{n}", value, line) for n, line in enumerate(lines, 1) if (value := _parsed(line)) is not None]
    return values if len(values) == len(lines) else []


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise StartError(f"cannot read {name}: {error.strerror}") from error


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """The JSON object; None if it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _call(source: str, value: dict[str, Any], raw: bytes, path: str | None, model: str | None) -> CallInput:
    if isinstance(value.get("request"), dict) and isinstance(value.get("endpoint"), str):
        return _recorded(source, value, value["request"], path)
    found = path or path_of(value, model or "")
    if found is None:
        raise StartError(f"{source}: this body has no format of a chat; give --path, or --text if it is a text")
    return CallInput(source, found, raw)


def _recorded(source: str, exchange: Mapping[str, Any], request: Mapping[str, Any], given: str | None) -> CallInput:
    body, headers = request.get("body"), request.get("headers")
    content = body.encode(errors="surrogatepass") if isinstance(body, str) else json.dumps(body).encode()
    if request.get("body_encoding") == "base64":
        try:
            content = base64.b64decode(content)
        except binascii.Error:
            raise StartError(f"{source}: the request's body is not base64") from None
    path, query = str(exchange["endpoint"]).rpartition(" ")[2], exchange.get("query")
    path = given or (f"{path}?{query}" if query else path)
    pairs = ((str(name).lower(), str(value)) for name, value in headers.items()) if isinstance(headers, dict) else ()
    return CallInput(source, path, content, tuple(pairs))


def path_of(body: Mapping[str, Any], model: str) -> str | None:
    """The path of a chat in one of the formats, by the members of its body. None: it has none of them. `model`: for a
    format that has the model in the path."""
    if "contents" in body:
        return f"/v1beta/models/{model or 'model'}:generateContent"
    messages = body.get("messages")
    if not isinstance(messages, list):
        return _RESPONSES if "input" in body and "model" in body else None
    parts = [
        part
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict)
    ]
    if "inferenceConfig" in body or "toolConfig" in body or any("type" not in part for part in parts):
        return f"/model/{model or 'model'}/converse"
    tools = body.get("tools")
    own_tools = isinstance(tools, list) and any(isinstance(tool, dict) and "input_schema" in tool for tool in tools)
    if "system" in body or own_tools or any(part.get("type") in _ANTHROPIC_PARTS for part in parts):
        return _MESSAGES
    # Anthropic requires max_tokens and has no choices of OpenAI's; a body that could be both is read as a chat.
    return _CHAT


Input = TextInput | CallInput
