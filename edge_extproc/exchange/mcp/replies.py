"""What the caller gets of a server's messages, as one JSON body or as events of a stream.

Lists of tools, prompts and resources have what the caller may use, in every result: a stream that is resumed can repeat
the reply to any request. Guardrails judge what each message carries. A message that cannot be read does not pass.

Clients read a stream in different ways. Some end a line at each character that Unicode calls a line end, and some
ignore the case of members. What they could read as another message than this module does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from ...auth.mcp_access import McpKind
from ...codecs.frame import Frame
from ...codecs.json_rpc import MEMBERS, RpcId
from ...codecs.json_values import UNREADABLE, decode_reply, encode
from ...codecs.sse import SseDecoder
from ...codecs.sse import encode as encode_event
from ...errors import EdgeError, GuardrailBlocked, UpstreamError
from ...model.content import Json
from ..large_bodies import WorkRunner, is_large
from .errors import fault_message
from .methods import hidden_in, listed_in

if TYPE_CHECKING:  # not loaded without rules
    from ...guardrails.base import ReplyGuard, ReplyGuards

Answer: TypeAlias = Literal["result", "tool_error", "error", "withheld"]
"""How the server has answered the request. `tool_error`: the tool ran and says that it failed. `withheld`: the caller
did not get the result, because of a guardrail or of its form."""
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_CARRIED = ("result", "params", "error")
"""The members of a message with what it carries."""
# Line ends of Unicode, and control characters. JSON has none of the control characters, and the others in texts only.
_ODD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xc2\x85|\xe2\x80[\xa8\xa9]")
_ID = re.compile(rb"(?:^|[\r\n])(?:\xef\xbb\xbf)?id[:\r\n]")
_LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


class McpReplies:
    """The messages that answer one HTTP request."""

    def __init__(
        self,
        request: RpcId | None,
        may_see: Callable[[McpKind, str], bool],
        guards: ReplyGuards | None,
        runner: WorkRunner,
        most: int,
        sealed: Callable[[str], str | None] | None = None,
    ) -> None:
        """`request`: the id of the caller's request; None: it sent none. `may_see`: whether the caller may use this.
        `most`: bytes of one message. `sealed`: the caller's id of an event; None: the event gets none."""
        self._sealed = sealed
        self._request = request
        self._may_see = may_see
        self._guards = guards
        self._runner = runner
        self._decoder = SseDecoder(most)
        self._broken = False
        self.answer: Answer | None = None

    # --- bodies

    async def body(self, raw: bytes) -> bytes:
        """A whole JSON body for the caller: the same object if it is unchanged. Raises UpstreamError."""
        message = await self._message(raw)
        if message is None:
            raise UpstreamError("the MCP server sent a body that is not a JSON-RPC message")
        return raw if message is raw else message

    async def chunk(self, data: bytes, *, end: bool) -> bytes:
        """A part of a stream for the caller."""
        if self._broken:
            return b""
        try:
            frames = self._decoder.feed(data)
            if end:
                frames = [*frames, *self._decoder.close()]
            return b"".join([await self._event(frame) for frame in frames])
        except EdgeError as error:
            # The status is sent: the request gets its error within the stream, and nothing more.
            self._broken = True
            self.answer = self.answer or "withheld"
            return encode_event(_escaped(encode(fault_message(error.fault(), self._request))), "message")

    async def _event(self, frame: Frame) -> bytes:
        if not frame.data.strip():
            return frame.raw if self._passes(frame) else self._other_fields(frame.raw, empty_data=True) + b"\n"
        message = await self._message(frame.data)
        if message is None:
            raise UpstreamError("the MCP server sent an event that is not a JSON-RPC message")
        if message is frame.data and self._passes(frame):
            return frame.raw
        return self._other_fields(frame.raw) + encode_event(_escaped(message))

    def _passes(self, frame: Frame) -> bool:
        """Whether the caller may get the lines as they came."""
        return _ODD.search(frame.raw) is None and (self._sealed is None or _ID.search(frame.raw) is None)

    def _other_fields(self, raw: bytes, *, empty_data: bool = False) -> bytes:
        """The lines of an event besides its data: its id, its name and others that all clients read as one line.
        `empty_data`: its data is empty, and stays."""
        kept: list[bytes] = []
        for line in (each.rstrip(b"\r\n") for each in _LINE.findall(raw)):
            name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
            if name == b"data":
                if empty_data and b"data:" not in kept:
                    kept.append(b"data:")
            elif line and _ODD.search(line) is None:
                if name == b"id" and self._sealed is not None and (id := value.removeprefix(b" ")):
                    sealed = self._sealed(id.decode("utf-8", "replace"))
                    line = b"id: " + sealed.encode() if sealed is not None else b""
                kept += [line] if line else []
        return b"".join(line + b"\n" for line in kept)

    # --- messages

    async def _message(self, raw: bytes) -> bytes | None:
        """The message for the caller: the same object if it is unchanged; None: it cannot be read. A server of the
        revision 2025-03-26 may send several in a list."""
        if b"\0" in raw:  # UTF-16 or UTF-32, which the protocol does not have
            return None
        try:
            value = await self._runner.run(decode_reply, raw) if is_large(raw) else decode_reply(raw)
        except UNREADABLE:
            return None
        messages: list[Json] = value if isinstance(value, list) else [value]
        checked: list[Json] = []
        for each in messages:
            if not isinstance(each, dict) or each.get("jsonrpc") != "2.0":
                return None
            checked.append(await self._checked(each))
        if all(new is old for new, old in zip(checked, messages, strict=True)):
            return raw
        return encode(checked if isinstance(value, list) else checked[0])

    async def _checked(self, message: dict[str, Json]) -> dict[str, Json]:
        if not message.keys() <= MEMBERS:
            message = {name: value for name, value in message.items() if name in MEMBERS}
        result = message.get("result")
        if isinstance(result, dict):
            message = self._with_visible(message, result)
        if self._guards is not None:
            message = await self._judged(message, self._guards)
        self._note(message)
        return message

    def _with_visible(self, message: dict[str, Json], result: dict[str, Json]) -> dict[str, Json]:
        """The message with the items of lists that the caller may use. An item without a name is left out. A list is
        written anew: of two members of one name, a client may read the other one."""
        if hidden := hidden_in(result):
            result = {member: value for member, value in result.items() if member not in hidden}
        for member, kind, name in listed_in(result):
            items = result[member]
            if not isinstance(items, list):  # pragma: no cover - `listed_in` gives lists only
                continue
            result = {**result, member: [item for item in items if self._is_visible(item, kind, name)]}
        return message if result is message["result"] else {**message, "result": result}

    def _is_visible(self, item: Json, kind: McpKind, name: str) -> bool:
        value = item.get(name) if isinstance(item, dict) else None
        return isinstance(value, str) and self._may_see(kind, value)

    async def _judged(self, message: dict[str, Json], guards: ReplyGuards) -> dict[str, Json]:
        """The message as the rules for replies leave it. One that a rule has judged is written anew: of two members of
        one name, a client may read the other one."""
        for member in _CARRIED:
            value = message.get(member)
            guard = guards.guard_next_reply() if value is not None else None
            if guard is None:
                continue
            checked = await _judged_value(value, guard)
            if guard.blocked is not None:
                blocked = GuardrailBlocked(guard.blocked.rule, guard.blocked.label)
                id = message.get("id")
                if member == "result" and self._is_answer(id):
                    self.answer = "withheld"
                return fault_message(blocked.fault(), id if isinstance(id, str | int) else None)
            message = {**message, member: checked}
        return message

    def _is_answer(self, id: Json) -> bool:
        return self._request is not None and type(id) is type(self._request) and id == self._request

    def _note(self, message: dict[str, Json]) -> None:
        """A result counts even if there is an error, too, or if there was one before: the tool has run."""
        if self.answer not in (None, "error") or "method" in message or not self._is_answer(message.get("id")):
            return
        if "result" in message:
            result = message["result"]
            failed = isinstance(result, dict) and result.get("isError") is True
            self.answer = "tool_error" if failed else "result"
        elif "error" in message:
            self.answer = "error"


async def _judged_value(value: Json, guard: ReplyGuard) -> Json:
    """Raises PolicyUnavailable."""
    services = guard.services
    if services is None:
        return guard.json(value)
    checked = services.detected(value)
    if guard.blocked is not None:
        return checked
    raw = await services.judged_body(encode(checked), "application/json")
    return services.restored(decode_reply(raw)) if guard.blocked is None else None


def _escaped(data: bytes) -> bytes:
    """JSON that all clients read as one line of a stream, if it has no line ends of ASCII."""
    if _ODD.search(data) is not None:
        for end, escape in _LINE_ENDS:
            data = data.replace(end, escape)
    return data
