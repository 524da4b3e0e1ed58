"""The port of an operation other than chat: embedding texts, counting tokens, completing a prompt, or passing on what
we do not translate.

A file of this room is one wire format of one such operation; it exports PLUGIN, an `OperationFormat`. Like a dialect it
is pure.
Where a provider takes the caller's own format, the caller's bytes go and the provider's come back (`splice`,
`read_usage`); where it takes another format of the same operation, the question and the answer cross over our own
nouns.
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
    """How many tokens a request has."""

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
    """As its file is called."""
    title: str
    """For humans."""
    operation: Operation
    error_dialect: str
    """The dialect of error responses, to callers and from hosts."""
    routes: tuple[Route, ...]
    billed: bool
    """Whether a provider bills such a call, so that one without a known usage is unpriced."""

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        """The cheap view; `path` with its query. Raises BadRequest."""
        ...

    def splice(self, call: Call, model: str) -> Written:
        """The caller's own bytes with only our fields changed."""
        ...

    def path(self, call: Call, model: str) -> str:
        """Where a host of this format takes such a call, below its base URL. Raises BadRequest for a call that goes to
        no place of its own."""
        ...

    def read(self, call: Call) -> Question:
        """The whole question. Raises BadRequest, Unsupported among them where this format does not cross."""
        ...

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        """The path below the base URL and the request for a host of this format."""
        ...

    def read_answer(self, body: bytes) -> Answer:
        """Raises UpstreamError where the body is no answer of this format."""
        ...

    def write_answer(self, answer: Answer, call: Call) -> bytes: ...

    def read_usage(self, reply: Json) -> Usage | None:
        """Of a whole JSON reply that passes as it is."""
        ...

    def as_asked(self, body: bytes, call: Call) -> bytes:
        """A reply that passes, in the spelling that the caller asked for where the host did not honour that."""
        ...

    def listener(self) -> StreamReader | None:
        """For a stream of this format; None where it has none."""
        ...


class WholeResult:
    """What most formats have in common: one JSON reply, which passes as it is and names what it used nowhere else."""

    billed = True

    def as_asked(self, body: bytes, call: Call) -> bytes:
        del call
        return body

    def listener(self) -> StreamReader | None:
        return None


class Counting(WholeResult):
    """A format that counts the tokens of a request which is not sent. It is free."""

    operation: Operation = "count_tokens"
    billed = False
    key: str
    """What an answer calls the count."""

    def read_answer(self, body: bytes) -> Counted:
        try:
            value = decode(body)
        except UNREADABLE:
            value = None
        found = value.get(self.key) if isinstance(value, dict) else None
        if not isinstance(found, int) or isinstance(found, bool):
            raise UpstreamError(f"the provider's answer holds no {self.key}")
        return Counted(found)

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        del call
        if not isinstance(answer, Counted):
            raise TypeError(f"a format that counts cannot tell a {type(answer).__name__}")
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
    """A format whose operation no other format has."""

    title = ""

    def read(self, call: Call) -> Question:
        raise Unsupported(f"{call.operation} of {call.model!r}", "another format", f"only {self.title} has it")

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        raise TypeError(f"{self.title} of {model!r} cannot ask a {type(question).__name__}")

    def read_answer(self, body: bytes) -> Answer:
        raise TypeError(f"{self.title} never crosses; {len(body)} bytes")

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        raise TypeError(f"{self.title} of {call.model!r} cannot tell a {type(answer).__name__}")
