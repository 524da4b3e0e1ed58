"""Which calls the semantic cache handles, and the partition in which it looks for their questions.

The question is the last text of the last message, if a user wrote it. Everything else of the call is in the partition:
the owner, the model and its candidates, the system prompt, tools, parameters, earlier turns, pictures, and fields that
the gateway does not know. The partition is a keyed hash, so a store cannot be searched for a known prompt.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from ...model.call import Chat
from ...model.content import Message, Opaque, Text, ToolCall, ToolResult
from ...model.frozen_dataclass import frozen_dataclass
from ...model.plan import Candidate
from ...model.wire_names import WireNames
from ..key import CacheKey, Headers, of_chat
from ..policy import CachePolicy

# Part of every partition. Increase it when records of an earlier version must not be found.
_FORMAT = 1
# UTF-8 bytes of an average token.
_BYTES_PER_TOKEN = 4


@frozen_dataclass
class QuestionBounds:
    """Which calls are looked up."""

    max_tokens: int
    """Of the question, estimated from its length."""
    structured_output: bool
    """Whether calls that require JSON are looked up."""


@frozen_dataclass
class PlacedQuestion:
    """A question, and the partition that its answer may come from."""

    text: str
    partition: bytes
    """32 bytes."""


class Partitioner:
    """Makes partitions with one secret, for vectors of one embedder."""

    def __init__(self, secret: bytes, identity: str) -> None:
        self._secret = hmac.digest(secret, b"semantic cache", "sha256")
        self._identity = identity

    def place(
        self,
        chat: Chat,
        key: CacheKey,
        routed: Sequence[Candidate],
        headers: Headers,
        names: WireNames,
        rules: CachePolicy,
        bounds: QuestionBounds,
    ) -> PlacedQuestion | None:
        """None if the semantic cache does not handle this call. `key`: of the exact cache. `routed`: the candidates."""
        question = question_of(chat, bounds)
        if question is None:
            return None
        text, rest = question
        shape = of_chat(rest, headers, names, rules.ignore)
        if shape is None:
            return None
        dialect = None if rules.across_dialects else chat.dialect
        candidates = [[c.provider, c.model] for c in routed]
        facts = msgspec.json.encode([_FORMAT, self._identity, key.owner, key.model, candidates, dialect])
        partition = hmac.new(self._secret, facts, hashlib.sha256)
        partition.update(b"\0")
        partition.update(shape.text)
        return PlacedQuestion(text, partition.digest())


def question_of(chat: Chat, bounds: QuestionBounds) -> tuple[str, Chat] | None:
    """The question, and the call without it. None for a call whose reply depends on more than words, or on too many of
    them: tools in flight, a required structure, several choices, probabilities, a last message with a picture, or with
    a text that is too long."""
    if not chat.messages or (chat.n or 1) > 1 or chat.logprobs or chat.top_logprobs:
        return None
    structure = chat.response_format
    if structure is not None and structure.kind != "text" and not bounds.structured_output:
        return None
    if any(not _is_talk(message) for message in chat.messages):
        return None
    last = chat.messages[-1]
    if last.role != "user" or not last.parts or not all(isinstance(part, Text) for part in last.parts):
        return None
    part = last.parts[-1]
    if not isinstance(part, Text) or not part.text.strip():
        return None
    if len(part.text) > bounds.max_tokens * _BYTES_PER_TOKEN:  # at least one byte a character
        return None
    try:
        size = len(part.text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which no embedder takes
        return None
    if size > bounds.max_tokens * _BYTES_PER_TOKEN:
        return None
    # The text is left out, and its place is not.
    without = replace(last, parts=(*last.parts[:-1], replace(part, text="")))
    return part.text, replace(chat, messages=(*chat.messages[:-1], without))


def _is_talk(message: Message) -> bool:
    """Whether it has no call of a tool and no result of one."""
    return message.role != "tool" and not any(isinstance(p, ToolCall | ToolResult | Opaque) for p in message.parts)
