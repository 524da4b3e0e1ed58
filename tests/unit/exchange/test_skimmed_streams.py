"""A passed-on stream has the same tally and the same bytes whether its text is skimmed or each frame becomes events: on
the streams of every API, read as each format, and on damaged ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from cells import each_cell
from crossings import APIS, is_other_operation
from crossings import DIALECTS as TRANSLATED
from recordings import body, of_today, recordings
from thoroughness import examples

from edge_extproc.codecs.frame import Frame
from edge_extproc.dialects.base import Dialect, SkimmingReader, StreamReader
from edge_extproc.dialects.bedrock_converse import PLUGIN as CONVERSE
from edge_extproc.errors import UpstreamError
from edge_extproc.exchange.relay import RawRelay
from edge_extproc.model.reply import PartDelta, PartStarted, ReplyEvent

DIALECTS: dict[str, Dialect] = {**TRANSLATED, CONVERSE.name: CONVERSE}
API_DIALECTS = {**APIS, "converse_stream": CONVERSE.name}
STREAMS = {
    r["id"]: r
    for r in recordings(*API_DIALECTS, streaming=True)
    if r["response"]["status"] == 200 and not is_other_operation(r)
}
SKIMMED = {
    "anthropic_messages": "messages",
    "bedrock_converse": "converse_stream",
    "openai_chat": "chat_completions",
    "openai_responses": "responses",
}
"""The formats with a reader that skims, and their APIs."""
LEAST_SKIMMED = 0.9
"""The part of the frames with nothing but text that is skimmed. A reader may read the first one of a part in full."""
DAMAGES = (
    (b'"content"', b'"refusal"'),
    (b'"text"', b'"texts"'),
    (b'"delta"', b'"deltas"'),
    (b'"index":0', b'"index":1'),
    (b'"index":0', b'"index":"0"'),
    (b'"index":0', b'"index":0.0'),
    (b'"index": 0', b'"index": null'),
    (b'"output_index":0', b'"output_index":7'),
    (b'"contentBlockIndex":0', b'"contentBlockIndex":-1'),
    (b'"text_delta"', b'"input_json_delta"'),
    (b'"text_delta"', b'"a_new_delta"'),
    (b'"output_text.delta"', b'"refusal.delta"'),
    (b'"finish_reason":null', b'"finish_reason":"stop"'),
    (b'"finish_reason":null', b'"finish_reason":7'),
    (b'"usage":null', b'"usage":{"prompt_tokens":3,"completion_tokens":4}'),
    (b'"choices":[', b'"error":{"message":"busy"},"choices":['),
    (b'"choices":[', b'"error":"","choices":['),
    (b'"choices":[', b'"usage":{},"choices":['),
    (b'"choices":[', b'"choices":[{"index":1,"delta":{"content":"b"}},'),
    (b'"created":', b'"created":NaN,"was":'),
    (b'"type":', b'"unknown":7,"type":'),
    (b'"type":', b'"error":{"message":"busy"},"type":'),
    (b"e", b"\xff"),
    (b"}", b"}}"),
    (b'"', b""),
    (b"data: ", b"data:"),
    (b"data: ", b"event: ping\ndata: "),
)
"""What is replaced in a frame, and by what. A frame may also be lost, doubled or swapped with the next."""


class ReadInFull:
    """A reader that does not skim."""

    def __init__(self, reader: StreamReader) -> None:
        self.frames, self.read, self.close = reader.frames, reader.read, reader.close


@dataclass
class Counted:
    """A reader that counts its frames."""

    reader: Any
    skimmed: int = 0
    read_in_full: int = 0
    """Frames with nothing but text."""
    texts: set[int] = field(default_factory=set)

    def frames(self, data: bytes) -> list[Frame]:
        return list(self.reader.frames(data))

    def read(self, frame: Frame) -> list[ReplyEvent]:
        events = list(self.reader.read(frame))
        match events:
            case [PartDelta(part=part, choice=0)] if part in self.texts:
                self.read_in_full += 1
        self.texts |= {each.part for each in events if isinstance(each, PartStarted) and each.kind == "text"}
        return events

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames, events = self.reader.close()
        return frames, events

    def skim(self, frame: Frame) -> int | None:
        length: int | None = self.reader.skim(frame)
        self.skimmed += length is not None
        return length


class NoWriter:
    def write(self, event: ReplyEvent) -> bytes:
        return repr(event).encode()


def outcome(reader: StreamReader, data: bytes, portion: int, *, hide_usage: bool) -> tuple[object, ...]:
    """All that a relay keeps of a stream and sends to the caller."""
    relay = RawRelay(reader, NoWriter(), hide_usage=hide_usage)
    out = []
    try:
        out.extend(relay.feed(data[begin : begin + portion]) for begin in range(0, len(data), portion))
        out.append(relay.close())
    except UpstreamError as error:
        out.append(error.message.encode())
    tally = relay.tally
    facts = {name: getattr(tally, name) for name in tally.__slots__}
    return tuple(out), facts


def compare(dialect: Dialect, data: bytes) -> None:
    for portion, hide_usage in ((len(data) or 1, False), (max(1, len(data) // 7), True)):
        skimmed = outcome(dialect.reader(dialect.stream_type), data, portion, hide_usage=hide_usage)
        in_full = outcome(ReadInFull(dialect.reader(dialect.stream_type)), data, portion, hide_usage=hide_usage)
        assert skimmed == in_full


@each_cell("id", of_today(STREAMS), parts=2)
def test_a_stream_has_the_same_tally(id: str) -> None:
    for dialect in DIALECTS.values():
        compare(dialect, body(STREAMS[id]["response"]))


@pytest.mark.parametrize("name", SKIMMED)
def test_most_text_is_skimmed(name: str) -> None:
    dialect = DIALECTS[name]
    skimmed = read_in_full = 0
    for stream in STREAMS.values():
        if API_DIALECTS[stream["api"]] == name:
            reader = dialect.reader(dialect.stream_type)
            assert isinstance(reader, SkimmingReader)
            counted = Counted(reader)
            outcome(counted, body(stream["response"]), 1 << 20, hide_usage=False)
            skimmed, read_in_full = skimmed + counted.skimmed, read_in_full + counted.read_in_full

    assert skimmed >= LEAST_SKIMMED * (skimmed + read_in_full), f"{skimmed} of {skimmed + read_in_full}"


@pytest.mark.parametrize("name", SKIMMED)
def test_a_damaged_stream_has_the_same_tally(name: str) -> None:
    dialect, dice = DIALECTS[name], random.Random(7)
    streams = [
        frames
        for stream in STREAMS.values()
        if stream["api"] == SKIMMED[name]
        and 3 <= len(frames := dialect.reader(dialect.stream_type).frames(body(stream["response"]))) <= 80
    ]
    for frames in dice.sample(streams, min(len(streams), examples(80))):
        for damage in range(len(DAMAGES) + 3):
            for at in dice.sample(range(len(frames)), min(len(frames), 4)):
                compare_frames(dialect, damaged(frames, at, damage))


def damaged(frames: list[Frame], at: int, damage: int) -> list[Frame]:
    before, frame, after = frames[:at], frames[at], frames[at + 1 :]
    if damage == len(DAMAGES):
        return before + after
    if damage == len(DAMAGES) + 1:
        return [*before, frame, frame, *after]
    if damage == len(DAMAGES) + 2:
        return [*before, *after[:1], frame, *after[1:]]
    old, new = DAMAGES[damage]
    data = frame.data.replace(old, new) if damage % 2 else frame.data.replace(old, new, 1)
    changed = type(frame)(data, frame.raw, frame.event) if type(frame) is Frame else with_data(frame, data)
    return [*before, changed, *after]


def with_data(frame: Any, data: bytes) -> Any:
    """An AWS frame with other data."""
    return type(frame)(**{name: getattr(frame, name) for name in all_slots(frame)} | {"data": data})


def all_slots(frame: Any) -> list[str]:
    return [name for kind in type(frame).__mro__ for name in getattr(kind, "__slots__", ())]


class OfFrames:
    """A decoded stream, so that a damaged frame has no checksum to be found out by."""

    def __init__(self, reader: Any, frames: list[Frame]) -> None:
        self.frames = lambda data: frames
        self.read, self.close = reader.read, reader.close


class SkimmedOfFrames(OfFrames):
    def __init__(self, reader: Any, frames: list[Frame]) -> None:
        super().__init__(reader, frames)
        self.skim = getattr(reader, "skim", lambda frame: None)


def compare_frames(dialect: Dialect, frames: list[Frame]) -> None:
    skimmed = outcome(SkimmedOfFrames(dialect.reader(dialect.stream_type), frames), b"x", 1, hide_usage=True)
    in_full = outcome(OfFrames(dialect.reader(dialect.stream_type), frames), b"x", 1, hide_usage=True)
    assert skimmed == in_full
