"""Reads what a batch has used: from its status, or from the lines of its results."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ..codecs.content_encoding import Inflater
from ..codecs.json_values import UNREADABLE, decode_reply
from ..errors import EdgeError, UpstreamError
from ..model.content import Json
from ..model.plausible import is_plausible
from ..model.reply_summary import summary_of
from ..model.usage import Usage
from ..operations.metering.usage import usage_of
from ..records.batches import OpenBatch
from .body_reader import BodyReader
from .commands import CONTINUE, Command
from .events import ResponseBody
from .ports import Gateway

MESSAGES = "/messages/batches"
RESPONSES = "/responses"
"""The path of an `OpenBatch` that is a reply in the background."""
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_RESPONSE_ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})
# Results of Anthropic without a reply, which cost nothing.
_WITHOUT_REPLY = frozenset({"errored", "canceled", "expired"})
_GOOD = range(200, 300)
# Tokens of the longest plausible prompt and reply of one request, beside what its bytes can make.
_MOST_ADDED = 10_000_000
# Requests of a batch that was not read. Providers take at most 100,000.
_MOST_REQUESTS = 100_000
# Models that the replies of one batch may name.
_MOST_MODELS = 256
# Characters of an id or a model's name.
_LONGEST_NAME = 512
# Bytes. A longer line cannot be read. The results of a whole batch are bounded too, if they are compressed.
LONGEST_LINE, MOST_DECODED = 32 << 20, 4 << 30


class BatchUsage(NamedTuple):
    by_model: dict[str, Usage]
    """By the model's name in the replies; "" if they name none."""
    unknown: bool = False
    """A part of it could not be read, or is not plausible."""


class BatchEnd(NamedTuple):
    """What a status says of a batch that has ended."""

    output: str | None
    """The id of the file with its results."""
    usage: BatchUsage | None
    """None: only its results show it."""


class _Reply(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw(b"")
    status_code: Any = None
    type: Any = None
    message: msgspec.Raw = msgspec.Raw(b"")


class _Result(msgspec.Struct):
    response: _Reply | None = None
    result: _Reply | None = None
    error: Any = None


_result = msgspec.json.Decoder(_Result).decode


def read_end(batch: OpenBatch, reply: Json) -> BatchEnd | None:
    """None: the batch has not ended, or the reply is not the status of a batch."""
    if not isinstance(reply, dict):
        return None
    counts = reply.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    if batch.path == MESSAGES:
        if reply.get("processing_status") != "ended":
            return None
        return BatchEnd(None, BatchUsage({}) if _is_zero(counts.get("succeeded")) else None)
    if batch.path == RESPONSES:
        return _read_response(batch, reply)
    if reply.get("status") not in _ENDED:
        return None
    output, model = name_in(reply.get("output_file_id")), name_in(reply.get("model")) or ""
    usage = usage_of(reply)
    models = batch.cost.models if batch.cost is not None else ()
    if usage is not None and usage.total > 0 and len(models) <= 1 and _is_plausible(batch, usage):
        return BatchEnd(output, BatchUsage({model: usage}))
    if output is None and not reply.get("output_file_id") and _is_zero(counts.get("completed")):
        return BatchEnd(None, BatchUsage({}))
    return BatchEnd(output, None)


def _read_response(batch: OpenBatch, reply: dict[str, Json]) -> BatchEnd | None:
    """The end of a reply in the background. None: it goes on."""
    if reply.get("status") not in _RESPONSE_ENDED:
        return None
    usage, model = usage_of(reply), name_in(reply.get("model")) or ""
    if usage is None or not is_known(batch, usage):
        return BatchEnd(None, BatchUsage({}, unknown=True))
    return BatchEnd(None, BatchUsage({model: usage}))


def is_known(batch: OpenBatch, usage: Usage) -> bool:
    """Whether a reply in the background reports a usage that can be charged."""
    return usage.total > 0 and _is_plausible(batch, usage)


def name_in(value: object) -> str | None:
    """An id or a model's name. None: the value is no text that can be written as UTF-8, or is too long."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # an unpaired surrogate
        return None
    return value


def _is_zero(count: object) -> bool:
    """Whether a count is given and 0. A missing count says nothing."""
    return type(count) is int and count == 0


def _is_plausible(batch: OpenBatch, usage: Usage) -> bool:
    """Whether the usage of a whole batch is possible for its requests."""
    cost = batch.cost
    requests, size = (cost.requests, cost.size) if cost is not None else (_MOST_REQUESTS, 0)
    if usage.unreadable or usage.prompt_unknown or usage.completion_unknown:
        return False
    return 0 <= usage.prompt <= size + requests * _MOST_ADDED and 0 <= usage.completion <= requests * _MOST_ADDED


class ResultLines:
    """Adds up the usage in the results of a batch, which come in any portions."""

    def __init__(self, gateway: Gateway, batch: OpenBatch) -> None:
        self._gateway = gateway
        self._batch = batch
        self._begun = bytearray()
        self._lines = self._replies = 0
        self._by_model: dict[str, Usage] = {}
        self._unknown = False
        url = batch.cost.url if batch.cost is not None else ""
        self._url = "/v1/messages" if batch.path == MESSAGES else url

    def feed(self, data: bytes) -> None:
        lines = data.split(b"\n")
        self._begun += lines[0]
        for line in lines[1:]:
            self._take(bytes(self._begun))
            self._begun[:] = line
        if len(self._begun) > LONGEST_LINE:
            self.lose()
            self._begun.clear()

    def close(self) -> BatchUsage | None:
        """The usage of all results. None: some are missing."""
        self._take(bytes(self._begun))
        self._begun.clear()
        cost = self._batch.cost
        # Anthropic's results have a line for each request, OpenAI's for each that succeeded.
        least = cost.requests if cost is not None and self._batch.path == MESSAGES else 1
        if not self._unknown and self._lines < least:
            return None
        return BatchUsage(self._by_model, self._unknown or self._replies > (cost.requests if cost else _MOST_REQUESTS))

    def lose(self) -> None:
        """A part of the results cannot be read."""
        self._unknown = True

    def _take(self, line: bytes) -> None:
        if self._unknown or not line.strip():
            return
        try:
            raw = _reply_in(_result(line))
            self._lines += 1
            if raw == b"":
                return
            model, usage = self._usage(raw) if raw is not None else ("", None)
        except (*UNREADABLE, EdgeError):
            self.lose()
            return
        self._replies += 1
        if usage is None or not self._is_plausible(usage):
            self.lose()
            return
        before = self._by_model.get(model)
        self._by_model[model] = usage if before is None else before + usage
        if len(self._by_model) > _MOST_MODELS:
            self.lose()

    def _is_plausible(self, usage: Usage) -> bool:
        if usage.unreadable or usage.prompt_unknown or usage.completion_unknown or not is_plausible(usage):
            return False
        size = self._batch.cost.size if self._batch.cost is not None else 0
        return usage.prompt <= size + _MOST_ADDED and usage.completion <= _MOST_ADDED

    def _usage(self, raw: bytes) -> tuple[str, Usage | None]:
        gateway = self._gateway
        if self._url:
            dialect, route = gateway.routes.match("POST", self._url)
            if not route.format:
                summary = dialect.read_summary(raw) or summary_of(dialect.read_reply(raw))
                return name_in(summary.model) or "", summary.usage
        reply = decode_reply(raw)
        model = reply.get("model") if isinstance(reply, dict) else None
        form = gateway.formats[route.format] if self._url and route.format else None
        return name_in(model) or "", form.read_usage(reply) if form else usage_of(reply)


def _reply_in(result: _Result) -> bytes | None:
    """The reply in a line of results. Empty: its request has failed and cost nothing. None: the line has neither a
    reply nor an error."""
    if result.result is not None:
        if result.result.type in _WITHOUT_REPLY:
            return b""
        reply = bytes(result.result.message) if result.result.type == "succeeded" else b""
        return reply if reply not in (b"", b"null") else None
    response = result.response
    if response is not None:
        if type(response.status_code) is int and response.status_code not in _GOOD:
            return b""
        reply = bytes(response.body)
        if reply not in (b"", b"null"):
            return reply
    return b"" if result.error else None


class ResultsBody(BodyReader):
    """The results of a batch, which pass unchanged."""

    __slots__ = ("_inflater", "_is_damaged", "_lines", "length", "usage")

    def __init__(self, lines: ResultLines | None, encoding: str | None) -> None:
        """`lines`: None if the body has no results of an open batch."""
        self._lines = lines
        self._inflater = Inflater.of(encoding, MOST_DECODED)
        self._is_damaged = False
        self.length = 0
        self.usage: BatchUsage | None = None
        """None: the results are not complete."""

    def take(self, event: ResponseBody) -> Command:
        self.length += len(event.body)
        if self._lines is None:
            return CONTINUE
        if not self._is_damaged:
            self._read(self._lines, event.body)
        if event.end and not self._is_damaged and (self._inflater is None or self._inflater.ended):
            self.usage = self._lines.close()
        return CONTINUE

    def _read(self, lines: ResultLines, body: bytes) -> None:
        try:
            lines.feed(self._inflater.feed(body) if self._inflater is not None else body)
        except UpstreamError:
            self._is_damaged = True
        else:
            self._is_damaged = self._inflater is not None and self._inflater.has_surplus
