"""The stream of a stored response, rebuilt for a caller who reads it again or goes on after an event.

The events are those that the writer of this dialect makes of the response. They get the order of the first stream, and
their texts are cut as there, so that the numbers of the events are those of the first stream too. That is not possible
if the provider's own stream had other events than the writer's. Then, and for a response that was no stream, each text
is one delta. In each case the events of one response are always the same.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

import msgspec

from ...codecs import sse
from ...codecs.json_values import decode, encode
from ...errors import UpstreamError
from ...model.call import Call
from ...model.reply import unfold
from .fields import NAME, Item
from .reply import read_reply
from .stored import EventRun, ResponseRecord
from .stream_out import ReplyWriter

_runs = msgspec.json.Decoder(list[EventRun])


def replayed(record: ResponseRecord, after: int) -> bytes:
    """The events after the one with the number `after`. The last event has the whole response. It is sent always, with
    the next number if the caller has a higher one than the stream: a caller without it would wait for the end."""
    response, events = decode(bytes(record.response)), list(_events(record))
    if runs := _runs.decode(record.events):
        events = _ordered(events, runs) or events
    last = len(events) - 1
    events[last]["response"] = response
    numbers = range(after + 1, last + 1) or (after + 1,)
    out: list[bytes] = []
    for number in numbers:
        event = events[min(number, last)]
        out.append(sse.encode(encode({**event, "sequence_number": number}), str(event["type"])))
    return b"".join(out)


def _events(record: ResponseRecord) -> Iterator[Item]:
    """The events that the writer makes, with one delta for each text."""
    response = bytes(record.response)
    try:
        reply = read_reply(response)
    except UpstreamError:  # a provider's own response, with something in it that only its callers can read
        yield {"type": f"response.{_status(response)}"}
        return
    writer = ReplyWriter(Call(NAME, "chat", reply.model or "", True, b"{}"))
    decoder = sse.SseDecoder()
    for event in unfold(reply):
        for frame in decoder.feed(writer.write(event)):
            payload = decode(frame.data)
            if isinstance(payload, dict):
                yield payload


def _status(response: bytes) -> str:
    value = decode(response)
    return str(value.get("status")) if isinstance(value, dict) else "completed"


def _ordered(events: list[Item], runs: list[EventRun]) -> list[Item] | None:
    """The events in this order, with their texts cut into these deltas. None: they are not the same events."""
    left: defaultdict[tuple[str, int], deque[Item]] = defaultdict(deque)
    for event in events:
        index = event.get("output_index")
        left[str(event["type"]), index if isinstance(index, int) else -1].append(event)
    begun: dict[tuple[str, int], int] = {}
    """Of texts that other events interrupt: the characters that are cut already."""
    ordered: list[Item] = []
    for run in runs:
        waiting = left[run.type, run.output]
        if not run.deltas and waiting:
            ordered.append(waiting.popleft())
        elif not run.deltas:
            return None
        at = begun.pop((run.type, run.output), 0)
        for length in run.deltas:
            text = waiting[0]["delta"] if waiting else ""
            if not isinstance(text, str) or at + length > len(text):
                return None
            ordered.append({**waiting[0], "delta": text[at : at + length]})
            at += length
            if at == len(text):
                waiting.popleft()
                at = 0
        if at:
            begun[run.type, run.output] = at
    return None if any(left.values()) else ordered
