"""The messages of Google's Live API (BidiGenerateContent), over a WebSocket.

    caller      setup, once and first; clientContent, realtimeInput, toolResponse
    provider    setupComplete, serverContent, toolCall, ...; each may have usageMetadata, which counts one turn

Protobuf's JSON has two spellings of each field, of which a message could have both: the spelling of the caller is kept,
and a message with both is refused by `kind_of` where it decides what is charged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ...codecs.json_values import object_in
from ...errors import BadRequest
from ...model.content import Json
from ...model.frozen_dataclass import frozen_dataclass
from ...model.usage import Usage
from .fields import NAME, Block, as_count
from .reply import SearchCount, read_usage

_PATH = re.compile(r"/ws/google\.ai\.generativelanguage\.v1(?:alpha|beta)?\.GenerativeService\.BidiGenerateContent")
DIALECT = NAME
SETUP, CONTENT, INPUT, TOOLS = "setup", "client_content", "realtime_input", "tool_response"
_KINDS = frozenset({SETUP, CONTENT, INPUT, TOOLS})
_COLLECTION = "models/"
_TURN_COMPLETE = "turn_complete"
# Tokens of one picture or frame of a video at the highest resolution of Gemini 3.
_FRAME = 2_240
# Base64 characters of audio for a token of it: at the least, and of 16 kHz, of which a token is 40 ms.
_LEAST_CHARACTERS, _USUAL_CHARACTERS = 64, 1_706
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


def is_live(path: str) -> bool:
    """Whether a path is that of this API with a key. The one for temporary tokens (Constrained) is another."""
    return _PATH.fullmatch(path) is not None


def _snake(name: str) -> str:
    return _CAPITAL.sub(r"_\1", name).lower()


def _fields(value: Json, path: str) -> Block:
    """The fields in snake case. Raises BadRequest if two spellings of one field are present."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"{path} must be an object", param=path)
    fields = {_snake(name): each for name, each in value.items()}
    if len(fields) < len(value):
        raise BadRequest(f"{path} has two spellings of one field", param=path)
    return fields


def kind_of(message: Block) -> str:
    """The one member of a caller's message, in snake case. Raises BadRequest."""
    kinds = [_snake(name) for name in message]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise BadRequest("a message must have exactly one of setup, clientContent, realtimeInput and toolResponse")
    return kinds[0]


@frozen_dataclass
class Setup:
    model: str
    """Without its collection."""
    most_output: int | None
    """The bound on the output of a turn."""
    handle: str | None
    """It continues this session."""


def read_setup(message: Block) -> Setup:
    """Raises BadRequest."""
    setup = _fields(_only(message), SETUP)
    model = setup.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("setup.model is missing: give the name of a model", param="setup.model")
    if "/" in model.removeprefix(_COLLECTION):
        raise BadRequest("setup.model must be models/NAME", param="setup.model")
    config = _fields(setup.get("generation_config"), "setup.generationConfig")
    most = config.get("max_output_tokens")
    limit = as_count(most, "setup.generationConfig.maxOutputTokens") if most is not None else 0
    handle = _fields(setup.get("session_resumption"), "setup.sessionResumption").get("handle")
    return Setup(model.removeprefix(_COLLECTION), limit if limit > 0 else None, _text(handle))


def with_model(message: Block, model: str) -> Block:
    return {SETUP: {**object_in(message, SETUP), "model": f"{_COLLECTION}{model}"}}


def begins_turn(kind: str, message: Block) -> bool:
    """Whether the model answers this message. It answers speech when it has heard its end, which no message shows."""
    match kind:
        case "client_content":
            return bool(_fields(_only(message), kind).get(_TURN_COMPLETE))
        case "realtime_input":
            fields = _fields(_only(message), kind)
            return bool(fields.get("text")) or fields.get("activity_end") is not None
        case _:
            return kind == TOOLS


def input_size(message: Block) -> tuple[int, int] | None:
    """The most and the likely tokens of a realtimeInput. None: it has more than text, sound and pictures."""
    most = likely = 0
    for name, value in _fields(_only(message), INPUT).items():
        chunks = value if isinstance(value, list) else [value]
        for chunk in chunks:
            if isinstance(chunk, str):
                most, likely = most + len(chunk.encode(errors="replace")), likely + len(chunk) // 4
                continue
            if isinstance(chunk, bool):  # audioStreamEnd
                continue
            fields = _fields(chunk, name)
            if fields.keys() - {"data", "mime_type"}:
                return None
            characters = sum(len(each) for each in fields.values() if isinstance(each, str))
            is_sound = str(fields.get("mime_type", "")).startswith("audio/")
            most += characters // _LEAST_CHARACTERS + (0 if is_sound else _FRAME)
            likely += characters // _USUAL_CHARACTERS if is_sound else _FRAME // 8
    return most, likely


def _only(message: Block) -> Json:
    (value,) = message.values()
    return value


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


# --- the provider's messages


class _Message(msgspec.Struct, rename="camel"):
    server_content: Any = None
    tool_call: Any = None
    usage_metadata: Any = None
    session_resumption_update: Any = None


@frozen_dataclass
class ProvidersMessage:
    begins: bool
    """It has a part of a turn."""
    is_over: bool
    """The turn has ended."""
    calls: bool
    """The turn waits for the results of functions."""
    text_characters: int
    audio_characters: int
    usage: Usage | None
    """Of the turn until now."""
    handle: str | None
    """A later session can continue this one with it."""


def read_message(payload: bytes, searches: SearchCount) -> ProvidersMessage | None:
    """None: it is no message. `searches`: of its turn."""
    try:
        message = msgspec.json.decode(payload, type=_Message)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    content = message.server_content if isinstance(message.server_content, dict) else {}
    turn = object_in(content, "modelTurn")
    body: Block = {"content": turn, "groundingMetadata": content.get("groundingMetadata")}
    found = searches.add({"candidates": [body]})
    sizes = [_size(part) for part in _parts(turn.get("parts"))]
    update = message.session_resumption_update
    handle = update.get("newHandle") if isinstance(update, dict) else None
    return ProvidersMessage(
        begins=bool(turn) or message.tool_call is not None,
        is_over=content.get("turnComplete") is True,
        calls=message.tool_call is not None,
        text_characters=sum(text for text, _ in sizes),
        audio_characters=sum(audio for _, audio in sizes),
        usage=read_live_usage(message.usage_metadata, found),
        handle=_text(handle),
    )


def _parts(parts: Json) -> Iterator[Block]:
    yield from (part for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict))


def _size(part: Block) -> tuple[int, int]:
    """Characters of text, and of base64."""
    text, data = part.get("text"), object_in(part, "inlineData").get("data")
    return len(text) if isinstance(text, str) else 0, len(data) if isinstance(data, str) else 0


# Google prices pictures and video of the Live API as sound.
_AS_SOUND = frozenset({"AUDIO", "VIDEO", "IMAGE"})


def read_live_usage(value: Json, searches: int = 0) -> Usage | None:
    """The usage of a turn. Its names differ from those of generateContent."""
    if not isinstance(value, dict):
        return None
    renamed = dict(value)
    for name in ("TokenCount", "TokensDetails"):
        if f"response{name}" in value:
            renamed[f"candidates{name}"] = renamed.pop(f"response{name}")
    for name, rows in renamed.items():
        if name.endswith("Details") and isinstance(rows, list):
            renamed[name] = [_as_sound(row) for row in rows]
    return read_usage(renamed, searches)


def _as_sound(row: Json) -> Json:
    is_sound = isinstance(row, dict) and row.get("modality") in _AS_SOUND
    return {**row, "modality": "AUDIO"} if isinstance(row, dict) and is_sound else row


def merged(before: Usage | None, now: Usage) -> Usage:
    """The usage of a turn by two counts of it. A later one that has all of the former replaces it; otherwise each is
    that of a step."""
    if before is None or (now.prompt >= before.prompt and now.completion >= before.completion):
        return now
    return before + now
