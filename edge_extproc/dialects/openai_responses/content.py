"""Reads and writes the content parts of input and output items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ...codecs.json_values import as_text, kind_name, maybe_text, objects, rest_of, text_of
from ...errors import BadRequest
from ...model.content import (
    NO_EXTRAS,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    Url,
)
from ..carried import MARK, REDACTED, original_id, unseal
from ..inline_data import plain_base64
from ..turns import arguments_text
from .fields import NAME, Item

# --- reading a request: items

# Notes: extras without a value, for a writer of this dialect. Other writers do not count them as fields.
INSTRUCTIONS: Extras = MappingProxyType({"instructions": None})
"""A system turn that came as `instructions`, not as an item."""

# Thinking of another provider is sent in an item's encrypted_content, with a mark (carried.py) for signed and unsigned
# thinking. Items from before all of them had the mark have an id of this shape (OpenAI's are longer), and only these
# fields.
_MADE_REASONING_ID = re.compile(r"rs_[0-9a-f]{32}")
_MADE_REASONING = frozenset({"id", "type", "summary"})
MESSAGE = frozenset({"type", "role", "content"})
_INPUT_TEXT = frozenset({"type", "text"})
_INPUT_IMAGE = frozenset({"type", "image_url", "file_id", "detail"})
_INPUT_FILE = frozenset({"type", "file_data", "file_url", "file_id", "filename"})
REFUSAL = frozenset({"type", "refusal"})
CALL = frozenset({"type", "call_id", "name", "arguments"})
RESULT = frozenset({"type", "call_id", "output"})
TYPE = frozenset({"type"})
_DATA_URI = re.compile(r"data:([^;,]*)(?:;[^,;]*)*;base64,", re.IGNORECASE)
# The items that the caller adds besides messages and results of functions. Any other item is from the model.
BY_CALLER = re.compile(r".*_output|mcp_approval_response|additional_tools|compaction_trigger|configuration_update")


def _inline(uri: str, path: str, default: str) -> Inline:
    match = _DATA_URI.match(uri)
    if match is None:
        raise BadRequest(f"{path} is not a base64 data URI", param=path)
    return Inline(match[1] or default, plain_base64(uri[match.end() :]))


def _read_image(part: Item, path: str) -> Part:
    detail = maybe_text(part.get("detail"), f"{path}.detail")
    url = maybe_text(part.get("image_url"), f"{path}.image_url")
    source: Source
    if url is not None and url[:5].lower() == "data:":
        source = _inline(url, f"{path}.image_url", "image/png")
    elif url is not None:
        source = Url(url)
    else:
        source = FileRef(as_text(part.get("file_id"), f"{path}.file_id"))
    return Image(source, detail, extras=rest_of(part, _INPUT_IMAGE), path=path)


def _read_file(part: Item, path: str) -> Part:
    """`file_data` is a data URI. Some callers send bare base64, which counts as a PDF."""
    data = maybe_text(part.get("file_data"), f"{path}.file_data")
    url = maybe_text(part.get("file_url"), f"{path}.file_url")
    source: Source
    if data is not None:
        is_uri = data[:5].lower() == "data:"
        source = (
            _inline(data, f"{path}.file_data", "application/pdf")
            if is_uri
            else Inline("application/pdf", plain_base64(data))
        )
    elif url is not None:
        source = Url(url)
    else:
        source = FileRef(as_text(part.get("file_id"), f"{path}.file_id"))
    name = maybe_text(part.get("filename"), f"{path}.filename")
    return Document(source, name, extras=rest_of(part, _INPUT_FILE), path=path)


def _read_text(part: Item, path: str) -> Part:
    return Text(as_text(part.get("text"), f"{path}.text"), extras=rest_of(part, _INPUT_TEXT), path=path)


def _read_refusal(part: Item, path: str) -> Part:
    return Refusal(as_text(part.get("refusal"), f"{path}.refusal"), rest_of(part, REFUSAL), path)


def opaque_of(item: Item, path: str) -> Opaque:
    return Opaque(NAME, as_text(item.get("type"), f"{path}.type"), item, path)


_READ_CONTENT: Mapping[str, Callable[[Item, str], Part]] = MappingProxyType(
    {
        "input_text": _read_text,
        "output_text": _read_text,
        "text": _read_text,
        "input_image": _read_image,
        "input_file": _read_file,
        "refusal": _read_refusal,
    }
)


def read_content(value: Json, path: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value, path=path),)
    if not isinstance(value, list):
        raise BadRequest(f"{path} must be a string or a list of parts, not {kind_name(value)}", param=path)
    return tuple(
        _READ_CONTENT.get(as_text(part.get("type"), f"{where}.type"), opaque_of)(part, where)
        for part, where in objects(value, path)
    )


def read_assistant_item(item: Item, path: str) -> tuple[Part, ...] | None:
    """The parts of an assistant's message item, each with the fields of the item. None: its content is missing or
    unknown, so the item must stay whole."""
    parts = read_content(item.get("content"), f"{path}.content")
    if not parts or not all(isinstance(part, Text | Refusal) for part in parts):
        return None
    own = rest_of(item, MESSAGE)
    return tuple(
        replace(part, extras={**part.extras, "item": own}) if own else part for part in texts_and_refusals(parts)
    )


def texts_and_refusals(parts: Iterable[Part]) -> Iterator[Text | Refusal]:
    return (part for part in parts if isinstance(part, Text | Refusal))


def thoughts(item: Item) -> Iterator[tuple[str, int, str]]:
    """The readable texts of a reasoning item: the list, the position in it, the text."""
    for key in ("summary", "content"):
        texts = item.get(key)
        for i, each in enumerate(texts if isinstance(texts, list) else ()):
            text = each.get("text") if isinstance(each, dict) else None
            if isinstance(text, str) and text:
                yield key, i, text


BETWEEN_THOUGHTS = "\n\n"


def read_reasoning_item(item: Item, path: str) -> Part:
    text = BETWEEN_THOUGHTS.join(text for _, _, text in thoughts(item))
    carried = item.get("encrypted_content")
    if isinstance(carried, str) and carried.startswith(MARK):
        if carried.startswith(REDACTED):
            return RedactedThinking(carried.removeprefix(REDACTED), path=path)
        return Thinking(text, unseal(carried), path=path)
    if is_made(item):
        return Thinking(text, path=path)
    return Thinking(text, extras=rest_of(item, TYPE), path=path)


def is_made(item: Mapping[str, Json]) -> bool:
    """Whether the gateway made the reasoning item from another provider's thinking."""
    sealed, id = item.get("encrypted_content"), item.get("id")
    if sealed:
        return isinstance(sealed, str) and sealed.startswith(MARK)
    names = {key for key, value in item.items() if value is not None}
    return isinstance(id, str) and _MADE_REASONING_ID.fullmatch(id) is not None and names <= _MADE_REASONING


def read_call_item(item: Item, path: str) -> ToolCall:
    return ToolCall(
        original_id(as_text(item.get("call_id"), f"{path}.call_id")),
        as_text(item.get("name"), f"{path}.name"),
        arguments_text(item.get("arguments"), f"{path}.arguments"),
        extras=rest_of(item, CALL),
        path=path,
    )


def data_uri(source: Inline) -> str:
    return f"data:{source.media_type};base64,{source.data}"


def short(content: Sequence[Json]) -> Json:
    """A single plain text is written as a string, as most callers do. The API accepts both."""
    match content:
        case [{"type": "input_text" | "output_text", "text": str(text), **rest}] if not rest:
            return text
        case _:
            return content


def item_of(part: Text | Refusal) -> Extras:
    """The fields of the message item around a part."""
    own = part.extras.get("item")
    return own if isinstance(own, Mapping) else NO_EXTRAS


def message_content(part: Text | Refusal, extras: Extras) -> Item:
    rest = {key: value for key, value in extras.items() if key != "item"}
    if isinstance(part, Text):
        return {"type": "output_text", "text": part.text, **rest}
    return {"type": "refusal", "refusal": part.text, **rest}


@dataclass(slots=True)
class AssistantMessage:
    """An assistant's message item that is being written."""

    own: Extras
    content: list[Item] = field(default_factory=list)

    def takes(self, own: Extras) -> bool:
        """Whether a part with these item fields belongs to this item."""
        return own.get("id") == self.own.get("id")


# --- pictures

_PICTURE = frozenset({"type", "result"})


def read_picture(item: Item) -> Image | None:
    """The picture. None: it is incomplete, or failed."""
    data = item.get("result")
    if not isinstance(data, str) or not data:
        return None
    format = text_of(item.get("output_format")) or "png"
    return Image(Inline(f"image/{format}", data), extras=rest_of(item, _PICTURE))
