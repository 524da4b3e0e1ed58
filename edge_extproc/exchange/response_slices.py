"""Reads a large chunk of a stream in slices, so that other exchanges are not delayed.

A chunk may have ten thousand tiny frames, each of which takes some microseconds. Between two slices, the event loop
serves whoever waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..model.fault import Fault
from .body_reader import BodyReader
from .commands import CONTINUE, Command, Continue
from .events import ResponseBody
from .large_bodies import is_large
from .ports import Gateway
from .response_bodies import take_whole
from .streamed_body import StreamedBody

# Bytes. Providers send most chunks of a stream in less than that, and a slice has at most some hundred frames.
SLICED, _SLICE = 16 * 1024, 4 * 1024


async def take_large(body: BodyReader, event: ResponseBody, gateway: Gateway, *, guarded: bool) -> Command | Fault:
    """The command for a chunk or a complete body that may be large. `guarded`: a guard checks its texts."""
    if len(event.body) > SLICED and isinstance(body, StreamedBody):
        return await take_in_slices(body, event, gateway.give_way)
    if guarded and is_large(event.body):
        return await gateway.large_body_runner.run_in_turn(take_whole, body, event, gateway.body_limits)
    return take_whole(body, event, gateway.body_limits)


async def take_in_slices(body: StreamedBody, event: ResponseBody, give_way: Callable[[], Awaitable[None]]) -> Command:
    """The command for a chunk of a stream: the same as that of `body.take`."""
    raw, passed = event.body, []
    for at in range(0, len(raw), _SLICE):
        if at:
            await give_way()
        part = ResponseBody(raw[at : at + _SLICE], event.end and at + _SLICE >= len(raw))
        command = body.take(part)
        if not isinstance(command, Continue):
            return command
        passed.append(part.body if command.body is None else command.body)
    out = b"".join(passed)
    return CONTINUE if out == raw else Continue(body=out)
