"""The interface of the readers of response bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..model.fault import Fault
from ..model.reply import Reply
from ..model.reply_summary import ReplySummary
from .commands import CONTINUE, Command
from .events import ResponseBody
from .handler import MoreTime
from .operation import OperationResponse
from .relay import Tally

Clock: TypeAlias = Callable[[], float]
"""Monotonic, in seconds."""


class BodyReader:
    """The interface of all readers. A class attribute is the value for a reader without this fact."""

    __slots__ = ()

    length: int = 0
    """Bytes that went to the caller."""
    first_token_at: float | None = None
    """The time of a stream's first text, thinking or tool call, by the monotonic clock. For a reply without them (an
    image, speech), the time of its first byte."""
    tally: Tally | None = None
    """Of a stream."""
    summary: ReplySummary | None = None
    """Of a chat whose reply came whole."""
    raw: bytes | None = None
    """The complete reply in the provider's format, if there is one."""
    operation: OperationResponse | None = None
    """The reply of an operation other than chat."""
    in_background: bool = False
    """The provider goes on after this reply. What it will use was charged already."""
    is_whole: bool = False
    """Envoy buffers the complete body, so the limit for responses applies."""
    unseen: bool = False
    """The body bypasses the gateway: Envoy may close the stream before the body ends."""
    in_full_duplex: bool = False
    """The gateway can end the response before the provider does."""
    asks: bool = False
    """Services of guardrails judge the reply: each answer of `take` is given to `judged`."""
    is_refused: bool = False
    """The reply is not passed on, because there was no verdict about it."""

    @property
    def is_cut(self) -> bool:
        """Whether the response ends here, though the provider goes on."""
        return False

    @property
    def reply(self) -> Reply | None:
        """The content of a chat's reply that came whole."""
        return None

    @property
    def lost(self) -> tuple[str, ...]:
        """Parts of the reply that the caller's dialect has no place for, sorted."""
        return ()

    def take(self, event: ResponseBody) -> Command | Fault:
        """The bytes for the caller. A fault: the response is an error, and the router writes it. Raises UpstreamError
        if a complete body cannot be read."""
        del event
        return CONTINUE

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        """The command after the services' verdict. `command` is that of `take`. Raises PolicyUnavailable."""
        del event, more_time
        return command


NO_BODY = BodyReader()
