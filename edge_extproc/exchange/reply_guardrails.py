"""A complete response of an operation other than chat, which a guardrail may change or block.

All of its strings are checked and restored, whatever the operation is. A text that is no JSON is one string, and each
of its lines that is JSON is read as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, decode_reply, encode
from ..errors import GuardrailBlocked, UpstreamError
from ..guardrails.base import VERDICT_SECONDS
from ..model.content import Json
from ..model.fault import Fault
from .commands import CONTINUE, Command
from .events import ResponseBody
from .handler import MoreTime
from .large_bodies import is_large
from .operation import OperationResponse, Way
from .parsed_call import ParsedCall
from .ports import Gateway
from .response_bodies import OperationBody, plain, whole_body

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyGuard, Restorer
    from ..guardrails.call_guard import CallGuard

Check: TypeAlias = Callable[[Json], Json]
"""Returns a JSON value for the caller."""

_OF_TEXTS = frozenset({"", "application/jsonl", "application/xml", "application/x-ndjson", "application/x-subrip"})


def is_json(content_type: str) -> bool:
    kind = media_type(content_type)
    return kind == "application/json" or kind.endswith("+json")


def may_be_text(content_type: str) -> bool:
    """Whether a complete response of this type can be checked. One without a type can be JSON."""
    kind = media_type(content_type)
    return is_json(kind) or kind in _OF_TEXTS or (kind.startswith("text/") and kind != "text/event-stream")


async def shown(parsed: ParsedCall, guard: CallGuard, gateway: Gateway) -> ParsedCall:
    """The call with the caller's values, for a reply that repeats parts of it."""
    restorer = guard.restorer
    if restorer is None or parsed.call.operation != "chat":
        return parsed
    raw = parsed.call.raw
    if is_large(raw):
        return parsed.with_body(await gateway.large_body_runner.run_in_turn(_with_values, raw, restorer))
    return parsed.with_body(_with_values(raw, restorer))


def _with_values(raw: bytes, restorer: Restorer) -> bytes:
    return restorer.restore_json(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


class GuardedOperationBody(OperationBody):
    __slots__ = ("_content_type", "_guard", "_plain", "_way", "asks")

    def __init__(
        self, operation: OperationResponse, encoding: str | None, way: Way, guard: ReplyGuard, content_type: str
    ) -> None:
        super().__init__(operation, encoding)
        self._guard = guard
        self.asks: bool = guard.services is not None
        self._plain = b""
        """The body that waits for its verdict."""
        self._way = way
        self._content_type = content_type

    def take(self, event: ResponseBody) -> Command | Fault:
        body = plain(event.body, self._encoding)
        if self._way == "whole":
            body = self.operation.whole(body)
        elif self._way == "tap":
            self.operation.tap(body, end=True, encoding=None)
        services = self._guard.services
        checked = self._checked(body, self._guard.json if services is None else services.detected)
        if isinstance(checked, bytes) and services is not None:
            self._plain = checked
            return CONTINUE
        return checked if isinstance(checked, Fault) else self._sent(checked, event)

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        services = self._guard.services
        if services is None:
            return command
        await more_time(VERDICT_SECONDS)
        body = await services.judged_body(self._plain, self._content_type)
        checked = self._checked(body, services.restored)
        return checked if isinstance(checked, Fault) else self._sent(checked, event)

    def _sent(self, body: bytes, event: ResponseBody) -> Command:
        self.length = len(body)
        return whole_body(body, event.body, self._content_type or "application/json")

    def _checked(self, body: bytes, check: Check) -> bytes | Fault:
        """The body with all of its JSON values checked."""
        if self._guard.blocked is None:
            checked = _as_json(body, check)
            if checked is None and is_json(self._content_type):
                return UpstreamError("the provider's response is not JSON, so the guardrails cannot check it").fault()
            body = _as_text(body, check) if checked is None else checked
        blocked = self._guard.blocked
        return body if blocked is None else GuardrailBlocked(blocked.rule, blocked.label).fault()


def _as_json(raw: bytes, check: Check) -> bytes | None:
    """None: it is no JSON."""
    try:
        value = decode_reply(raw)
    except UNREADABLE:
        return None
    checked = check(value)
    return raw if checked is value else encode(checked)


def _as_text(raw: bytes, check: Check) -> bytes:
    out: list[bytes] = []
    plain: list[bytes] = []
    for line in raw.splitlines(keepends=True):
        checked = _as_json(line, check) if line.lstrip()[:1] == b"{" else None
        if checked is None:
            plain.append(line)
            continue
        if checked is not line:
            checked += line[len(line.rstrip(b"\r\n")) :]
        out += (_plain_text(b"".join(plain), check), checked)
        plain.clear()
    return b"".join((*out, _plain_text(b"".join(plain), check)))


def _plain_text(raw: bytes, check: Check) -> bytes:
    text = raw.decode("utf-8", "surrogateescape")  # bytes that are no characters stay as they are
    checked = check(text)
    return checked.encode("utf-8", "surrogateescape") if isinstance(checked, str) else b""
