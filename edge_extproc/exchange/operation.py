"""The response of an operation other than chat: embeddings, token counts, completions and passthrough.

On the raw lane the bytes pass without delay; a copy is kept up to a limit, and the usage is read from it at the end. If
the provider uses another format of the operation, or ignores the requested encoding, the whole response is read and
written again. It is also read whole if it shows objects that a provider stores (object_access.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from ..accounting.estimate import tokens_of, tokens_of_length
from ..codecs.content_encoding import inflate
from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, decode_reply
from ..errors import BadRequest, EdgeError, UpstreamError
from ..model.call import Call
from ..model.content import Json
from ..model.embedding import Embed, Embedded
from ..model.usage import Usage
from ..operations.base import OperationFormat

Way: TypeAlias = Literal["pass", "tap", "listen", "whole"]
"""not seen; copied while it passes; read frame by frame; read when it is complete."""

# Bytes. A longer reply passes too, but its usage is not known.
MAX_TAPPED = 32 * 1024 * 1024


class OperationResponse:
    def __init__(self, call: Call, formats: Mapping[str, OperationFormat], theirs: str) -> None:
        self._call = call
        self._ours = formats[call.format]
        self._theirs = formats[theirs]
        self._tapped = bytearray()
        self._lost = False
        self.usage: Usage | None = None
        self.estimated = False
        self._length = 0
        """Characters of a completion's text."""

    @property
    def crosses(self) -> bool:
        return self._theirs is not self._ours

    @property
    def _is_passed(self) -> bool:
        return self._call.operation == "passed"

    @property
    def billed(self) -> bool:
        """Whether the provider charges for the call, so that the caller is charged. A configured path without a model
        (files, batches) is free: the results of a batch report its usage."""
        return self._ours.billed and self._call.method == "POST" and (not self._is_passed or bool(self._call.model))

    @property
    def has_text(self) -> bool:
        """Whether a stream contains the model's tokens: a completion does, speech does not."""
        return self._call.operation == "completions"

    def way(self, content_type: str) -> Way:
        kind = media_type(content_type)
        if kind == "text/event-stream" and self._ours.listener() is not None and not self.crosses:
            return "listen"
        if self.crosses or self._call.operation == "embeddings":
            return "whole"
        return "tap" if kind == "application/json" and self.billed else "pass"

    def tap(self, data: bytes, *, end: bool, encoding: str | None) -> None:
        if not self._lost and len(self._tapped) + len(data) <= MAX_TAPPED:
            self._tapped += data
        else:
            self._lost = True
            self._tapped.clear()
        if end and not self._lost:
            try:
                self._read_usage(inflate(encoding, bytes(self._tapped)))
            except EdgeError:  # the response was passed on already; the caller may be able to read it
                self.usage = None
            if self.usage is not None:
                self._fill_in()

    def whole(self, body: bytes) -> bytes:
        """The response for the caller. Raises UpstreamError if it must be translated and cannot be read."""
        if not self.crosses:
            if self.billed or not self._is_passed:  # what is only shown was charged before: a batch, a stored reply
                self._read_usage(body)
            if self.usage is not None or not self._is_passed:
                self._fill_in()
            return self._ours.as_requested(body, self._call)
        answer = self._theirs.read_answer(body)
        if isinstance(answer, Embedded):
            self._check_count(answer)
            self.usage = answer.usage
            self._fill_in()
            answer = replace(answer, usage=self.usage)
        return self._ours.write_answer(answer, self._call)

    def _check_count(self, answer: Embedded) -> None:
        """Each input needs its vector: some models embed a batch as one document (googleapis/python-genai#2523), and
        callers would store vectors with the wrong texts. Raises UpstreamError."""
        question = self._ours.read(self._call)
        if isinstance(question, Embed) and len(answer.vectors) != len(question.inputs):
            raise UpstreamError(
                f"the provider's reply has {len(answer.vectors)} embeddings for {len(question.inputs)} inputs"
            )

    def _read_usage(self, body: bytes) -> None:
        try:
            reply = decode_reply(body)
        except UNREADABLE:
            self.usage = None
        else:
            self.usage, self._length = self._ours.read_usage(reply), _text_length(reply)

    def _fill_in(self) -> None:
        """Estimates missing usage. Some hosts report none for embeddings, although they charge by tokens."""
        if not self.billed:
            return
        usage = self.usage or Usage(prompt_unknown=True)
        self.estimated = usage.prompt_unknown or usage.unreadable > 0
        if usage.prompt_unknown:
            usage = replace(usage, input=usage.input + max(0, estimate(self._call, self._ours) - usage.prompt))
        if self._length and (usage.completion_unknown or not usage.completion):
            usage, self.estimated = replace(usage, output=tokens_of_length(self._length)), True
        self.usage = usage


def _text_length(reply: Json) -> int:
    """Characters of the texts of a legacy completion; 0 for any other reply."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    texts = (choice.get("text") for choice in choices if isinstance(choice, dict)) if isinstance(choices, list) else ()
    return sum(len(text) for text in texts if isinstance(text, str))


def estimate(call: Call, form: OperationFormat) -> int:
    """The estimated tokens of a call's input."""
    try:
        question = form.read(call)
    except BadRequest:
        return tokens_of_length(len(call.raw))
    if not isinstance(question, Embed):
        return tokens_of_length(len(call.raw))
    return sum(tokens_of(each) if isinstance(each, str) else len(each) for each in question.inputs)
