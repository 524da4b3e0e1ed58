"""Estimates the tokens of a chat, for token counting of models whose provider cannot count."""

from __future__ import annotations

import msgspec

from ..accounting.estimate import tokens_of
from ..model.call import Chat, FunctionTool
from ..model.content import (
    Audio,
    Document,
    Image,
    Inline,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ..model.plan import Candidate
from ..operations.base import Count, Counted, OperationFormat
from .parsed_call import ParsedCall
from .ports import Gateway

# Anthropic: width x height / 750, with at most 1568 pixels on each side; OpenAI's high detail and Gemini's tiles give
# similar numbers. An estimate should rather be too high, so that a prompt of this size fits.
_IMAGE = 1600
# Anthropic's guide: 1,500 to 3,000 tokens a page of PDF; a page is some 50 KB.
_BYTES_PER_PAGE, _PAGE = 50_000, 2_000
# Tokens that formats add to each message and each tool: o200k's <|im_start|>role … <|im_end|>.
_PER_MESSAGE = 4


def tokens_of_chat(chat: Chat) -> int:
    turns = sum(_PER_MESSAGE + sum(_part(part) for part in message.parts) for message in chat.messages)
    tools = 0
    for tool in chat.tools:
        described = (
            [tool.name, tool.description, tool.parameters]
            if isinstance(tool, FunctionTool)
            else [tool.kind, tool.value]
        )
        tools += _PER_MESSAGE + tokens_of(msgspec.json.encode(described).decode())
    return max(1, turns + tools)


def _part(part: Part) -> int:
    match part:
        case Text() | Thinking() | Refusal():
            return tokens_of(part.text)
        case Image():
            return _IMAGE
        case Document() | Audio():
            return _file(part)
        case ToolCall():
            return _PER_MESSAGE + tokens_of(part.name) + tokens_of(part.arguments)
        case ToolResult():
            return _PER_MESSAGE + sum(_part(each) for each in part.parts)
        case RedactedThinking():
            return tokens_of(part.data)
        case Opaque():
            return tokens_of(msgspec.json.encode(part.value).decode())


def _file(part: Document | Audio) -> int:
    size = len(part.source.data) * 3 // 4 if isinstance(part.source, Inline) else 0
    return _PAGE * (1 + size // _BYTES_PER_PAGE)


def can_count(gateway: Gateway, candidate: Candidate) -> bool:
    return bool(gateway.providers[candidate.provider].formats("count_tokens", candidate.model))


def estimated_count(parsed: ParsedCall, form: OperationFormat) -> bytes:
    """The reply with an estimated count, for a provider without token counting. Clients count often, to see what still
    fits, so an estimate is better than an error (docs/adr/031). Raises BadRequest if the call cannot be read."""
    question = parsed.question()
    if not isinstance(question, Count):
        raise TypeError(f"{form.name} has a {type(question).__name__}, not a count")
    return form.write_answer(Counted(tokens_of_chat(question.chat)), parsed.call)
