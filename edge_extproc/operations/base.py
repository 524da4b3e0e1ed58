"""The port of an operation other than chat: embeddings, token counting, completions and passthrough.

A file of this package is one wire format of one such operation. It exports PLUGIN, an `OperationFormat`, and does no
IO. If the provider accepts the caller's format, the bytes pass with our own fields changed (`splice`, `read_usage`). If
it accepts another format of the same operation, the request is translated by way of `Question`, and the reply by way of
`Answer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..codecs.json_values import UNREADABLE, decode, encode
from ..dialects.base import Dialect, Headers, Route, StreamReader
from ..errors import Unsupported, UpstreamError
from ..model.call import Call, Chat, Operation, Written
from ..model.content import Json
from ..model.embedding import Embed, Embedded
from ..model.usage import Usage


@dataclass(frozen=True, slots=True)
class Count:
    """A request whose tokens are to be counted."""

    chat: Chat
    call: Call
    """The request that is counted, in its own dialect."""


@dataclass(frozen=True, slots=True)
class Counted:
    tokens: int


Question: TypeAlias = Embed | Count
Answer: TypeAlias = Embedded | Counted


class OperationFormat(Protocol):
    name: str
    """The name of its file."""
    title: str
    """The name in messages and documentation."""
    operation: Operation
    error_dialect: str
    """The dialect of error responses, to callers and from hosts."""
    routes: tuple[Route, ...]
    billed: bool
    """Whether providers charge for such a call. Without a known usage it is then unpriced."""

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        """Reads the fields that routing needs. `path` includes the query. Raises BadRequest."""
        ...

    def splice(self, call: Call, model: str) -> Written:
        """The caller's own bytes with only our fields changed."""
        ...

    def path(self, call: Call, model: str) -> str:
        """The path of the call at a host of this format, below its base URL. Raises BadRequest if the model's name
        cannot be a part of a path."""
        ...

    def read(self, call: Call) -> Question:
        """The complete request. Raises BadRequest, or Unsupported if this format cannot be translated."""
        ...

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        """The path below the base URL, and the request in this format."""
        ...

    def read_answer(self, body: bytes) -> Answer:
        """Raises UpstreamError if the body is not a reply of this format."""
        ...

    def write_answer(self, answer: Answer, call: Call) -> bytes: ...

    def read_usage(self, reply: Json) -> Usage | None:
        """The usage of a complete JSON reply on the raw lane."""
        ...

    def as_requested(self, body: bytes, call: Call) -> bytes:
        """A reply on the raw lane in the encoding that the caller requested, if the host ignored it."""
        ...

    def listener(self) -> StreamReader | None:
        """The reader for a stream of this format. None: it has no streams."""
        ...


class WholeResult:
    """The base of formats with one JSON reply and no stream."""

    billed = True

    def as_requested(self, body: bytes, call: Call) -> bytes:
        del call
        return body

    def listener(self) -> StreamReader | None:
        return None


class Counting(WholeResult):
    """The base of formats that count the tokens of a request. Counting is free."""

    operation: Operation = "count_tokens"
    billed = False
    key: str
    """The reply's field with the count."""

    def read_answer(self, body: bytes) -> Counted:
        try:
            value = decode(body)
        except UNREADABLE:
            value = None
        count = value.get(self.key) if isinstance(value, dict) else None
        if not isinstance(count, int) or isinstance(count, bool):
            raise UpstreamError(f"the provider's reply has no {self.key}")
        return Counted(count)

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        del call
        if not isinstance(answer, Counted):
            raise TypeError(f"a counting format cannot write {type(answer).__name__}")
        return encode({self.key: answer.tokens})

    def read_usage(self, reply: Json) -> Usage | None:
        del reply
        return None


def counted_request(question: Question, dialect: Dialect, model: str) -> Written:
    """The request to count, in a dialect: the caller's own bytes where the caller used that dialect."""
    if not isinstance(question, Count):
        raise TypeError(f"a format that counts cannot ask a {type(question).__name__}")
    if question.call.dialect == dialect.name:
        return dialect.splice(question.call, model)
    return dialect.write_chat(question.chat, model)


class Uncrossed(WholeResult):
    """The base of formats that are never translated, because their operation has no other format."""

    title = ""

    def read(self, call: Call) -> Question:
        raise Unsupported(f"{call.operation} of {call.model!r}", "another format", f"only {self.title} supports it")

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        raise TypeError(f"{self.title} cannot write {type(question).__name__} for {model!r}")

    def read_answer(self, body: bytes) -> Answer:
        raise TypeError(f"{self.title} is never translated; {len(body)} bytes")

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        raise TypeError(f"{self.title} cannot write {type(answer).__name__} for {call.model!r}")
