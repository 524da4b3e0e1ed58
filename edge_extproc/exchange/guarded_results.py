"""The results of a batch, and other downloads with a reply in each line, as the rules for replies leave them.

Each line is a reply of its own: if a rule blocks it, the line says so as the provider's own errors do, and the other
lines pass. A line without a reply passes unchanged. A result that is not complete JSON is replaced by an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..codecs.content_encoding import Inflater
from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, decode_reply, encode
from ..errors import GuardrailBlocked, PolicyUnavailable, UpstreamError
from ..guardrails.base import VERDICT_SECONDS
from ..model.content import Json
from ..model.fault import Fault
from .batch_results import LONGEST_LINE, MOST_DECODED, ResultLines, ResultsBody
from .commands import Command, Continue
from .events import ResponseBody
from .handler import MoreTime

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyGuard, ReplyGuards

_OF_LINES = frozenset(
    {
        "application/jsonl",
        "application/x-jsonl",
        "application/x-ndjson",
        "application/octet-stream",
        "binary/octet-stream",
    }
)


def may_have_lines(content_type: str) -> bool:
    """Whether a download of this type may have a reply in each line."""
    return media_type(content_type) in _OF_LINES


class GuardedResultsBody(ResultsBody):
    """`results`: reads what the batch has used. None: the lines are not results of an open batch."""

    __slots__ = ("_begun", "_guards", "_plain", "_ready", "asks")

    def __init__(self, guards: ReplyGuards, encoding: str | None, results: ResultLines | None, *, asks: bool) -> None:
        """`asks`: services judge the lines."""
        super().__init__(results, encoding)
        self.asks: bool = asks
        self._guards = guards
        self._plain = Inflater.of(encoding, MOST_DECODED)
        self._begun = bytearray()
        """The line that is not complete."""
        self._ready: list[bytes] = []
        """The lines that wait for a verdict."""

    def take(self, event: ResponseBody) -> Command:
        super().take(event)
        lines = self._lines_of(event)
        if self.asks:
            self._ready = lines
            return Continue(body=b"")
        return Continue(body=b"".join(map(self._checked, lines)))

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        del event
        lines, self._ready = self._ready, []
        if not lines or not isinstance(command, Continue):
            return command
        await more_time(VERDICT_SECONDS)
        return replace(command, body=b"".join([await self._judged(line) for line in lines]))

    def _lines_of(self, event: ResponseBody) -> list[bytes]:
        """The lines that are complete. Raises UpstreamError: what cannot be read cannot be checked."""
        new = self._plain.feed(event.body) if self._plain is not None else event.body
        self._begun += new
        lines: list[bytes] = []
        if event.end or b"\n" in new:
            # Only \n ends a line: JSON may have \r between its values.
            *complete, rest = bytes(self._begun).split(b"\n")
            lines = [line + b"\n" for line in complete]
            if event.end and rest:
                lines.append(rest)
                rest = b""
            self._begun[:] = rest
        if len(self._begun) > LONGEST_LINE:
            raise UpstreamError(f"the provider sent a line of more than {LONGEST_LINE} bytes")
        return lines

    def _checked(self, line: bytes) -> bytes:
        value = _result_in(line)
        if value is None:
            return _without_reply(line)
        guard = self._guard()
        if guard is None:
            return line
        checked = guard.json(value)
        return self._written(line, value, checked, guard)

    async def _judged(self, line: bytes) -> bytes:
        value = _result_in(line)
        guard = self._guard() if value is not None else None
        if value is None:
            return _without_reply(line)
        if guard is None or guard.services is None:
            return line
        services = guard.services
        try:
            checked = services.detected(value)
            if guard.blocked is None:
                raw = await services.judged_body(encode(checked), "application/json")
                checked = services.restored(decode_reply(raw)) if guard.blocked is None else None
        except PolicyUnavailable as error:
            return _refused(value, error.fault()) + _end_of(line)
        return self._written(line, value, checked, guard)

    def _guard(self) -> ReplyGuard | None:
        return self._guards.guard_next_reply()

    def _written(self, line: bytes, value: dict[str, Json], checked: Json, guard: ReplyGuard) -> bytes:
        blocked = guard.blocked
        if blocked is not None:
            return _refused(value, GuardrailBlocked(blocked.rule, blocked.label).fault()) + _end_of(line)
        return line if checked == value else encode(checked) + _end_of(line)


def _end_of(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")) :]


def _without_reply(line: bytes) -> bytes:
    """A line that cannot be read passes, unless it may be a part of a result, which cannot be checked."""
    if line.lstrip()[:1] != b"{" or not any(name in line for name in (b'"response"', b'"result"')) or _is_json(line):
        return line
    error = UpstreamError("the provider sent a result that is not complete JSON, so the guardrails cannot check it")
    return _refused({}, error.fault()) + _end_of(line)


def _is_json(line: bytes) -> bool:
    try:
        decode_reply(line)
    except UNREADABLE:
        return False
    return True


def _result_in(line: bytes) -> dict[str, Json] | None:
    """None: the line has no reply."""
    if line.lstrip()[:1] != b"{":
        return None
    try:
        value = decode_reply(line)
    except UNREADABLE:
        return None
    is_result = isinstance(value, dict) and (
        isinstance(value.get("response"), dict) or isinstance(value.get("result"), dict)
    )
    return value if is_result and isinstance(value, dict) else None


def _refused(value: dict[str, Json], fault: Fault) -> bytes:
    """The line of a request that has failed, as its provider writes it."""
    if isinstance(value.get("result"), dict):  # Anthropic
        error: Json = {"type": "error", "error": {"type": "invalid_request_error", "message": fault.message}}
        return encode({**value, "result": {"type": "errored", "error": error}})
    return encode({**value, "response": None, "error": {"code": fault.code, "message": fault.message}})
