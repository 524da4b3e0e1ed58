"""A call with the parts of its body that are read only if needed.

A call is translated once for each candidate of another wire format, and again for each retry. Its body is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ..dialects.base import Dialect
from ..errors import BadRequest
from ..model.call import Call, Chat
from ..operations.base import OperationFormat, Question

T = TypeVar("T")


class ParsedCall:
    """One call with its chat, or with the request of another operation. Both are read at their first use."""

    __slots__ = ("_chat", "_dialect", "_error", "_format", "_question", "call")

    def __init__(self, call: Call, dialect: Dialect, form: OperationFormat | None) -> None:
        """`dialect` reads chats, `form` reads calls of another operation."""
        self.call = call
        self._dialect = dialect
        self._format = form
        self._chat: Chat | None = None
        self._question: Question | None = None
        self._error: BadRequest | None = None

    def chat(self) -> Chat:
        """The chat. Raises BadRequest if the body cannot be read, each time with the error of the first reading."""
        if self._chat is None:
            self._chat = self._once(self._dialect.read_chat)
        return self._chat

    def question(self) -> Question:
        """Raises BadRequest as `chat` does, and TypeError for a chat call."""
        if self._format is None:
            raise TypeError(f"a {self.call.operation} call has no operation format")
        if self._question is None:
            self._question = self._once(self._format.read)
        return self._question

    def with_body(self, raw: bytes) -> ParsedCall:
        """The same call with another body."""
        return ParsedCall(replace(self.call, raw=raw), self._dialect, self._format)

    def with_model(self, model: str) -> ParsedCall:
        """The call of another model. The body still names the caller's; each request to a provider has its own."""
        return ParsedCall(replace(self.call, model=model), self._dialect, self._format)

    def forget(self) -> None:
        """Frees what was read: no further attempt is expected. A later use reads the body again."""
        self._chat = self._question = None

    def _once(self, read: Callable[[Call], T]) -> T:
        if self._error is not None:
            raise self._error
        try:
            return read(self.call)
        except BadRequest as error:
            self._error = error
            raise
