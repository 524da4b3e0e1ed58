"""A dialect: one JSON object with lines of text, and streams of one JSON object a line.

Request: `{"model": …, "lines": [{"from": "user", "text": …}], "stream": …, "longest": …}` to POST /example/talk.
Reply:   `{"model": …, "said": …, "why": "stop", "in": tokens, "out": tokens}`.
Stream:  `{"say": …}` lines, then `{"why": "stop", "in": tokens, "out": tokens}`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_extproc.codecs import json_splice
from edge_extproc.codecs.frame import Frame
from edge_extproc.codecs.json_values import (
    UNREADABLE,
    JsonObject,
    as_list,
    as_object,
    as_text,
    decode,
    encode,
    maybe_bool,
    maybe_int,
    read_body,
)
from edge_extproc.dialects.base import Headers, ModelCard, Route
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.call import Call, Chat, Operation, Written
from edge_extproc.model.content import Message, Part, Text
from edge_extproc.model.fault import Fault, kind_of
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    Garbled,
    PartDelta,
    PartEnded,
    PartStarted,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from edge_extproc.model.reply_summary import ReplySummary
from edge_extproc.model.usage import Usage
from edge_extproc.model.wire_names import WireNames

NAME = "example_talk"
TITLE = "Example Talk"
_KNOWN = frozenset({"model", "lines", "stream", "longest"})
_LONGEST_LINE = 1_000_000
_CANNOT_BE_LEFT_OUT = ("tools", "response_format")


class ExampleReader:
    """Reads a stream of lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = self._ended = False

    def frames(self, data: bytes) -> list[Frame]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise UpstreamError(f"the provider sent a line of more than {_LONGEST_LINE} bytes")
        return [Frame(line, line + b"\n") for line in lines]

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if not frame.data or self._ended:
            return []
        try:
            row = decode(frame.data)
        except UNREADABLE:
            return [Garbled("the line is not JSON")]
        if not isinstance(row, dict):
            return [Garbled("the line is not a JSON object")]
        events: list[ReplyEvent] = []
        if not self._started:
            self._started = True
            events += [ReplyStarted(None, None), PartStarted(0, "text")]
        if isinstance(row.get("say"), str):
            events.append(PartDelta(0, row["say"]))
        if "why" in row:
            self._ended = True
            events += [PartEnded(0), Finished(_finish(row["why"])), UsageSeen(_usage(row)), Ended()]
        return events

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        last = [Frame(self._rest, self._rest)] if self._rest else []
        self._rest = b""
        events = [event for frame in last for event in self.read(frame)]
        if not self._ended:
            events.append(Failed(Fault(502, "api", "the provider's stream ended before its last line")))
        return last, events


class ExampleWriter:
    """Writes a stream of lines."""

    def __init__(self) -> None:
        self._finish, self._usage = Finish("stop"), Usage()
        self._texts: set[tuple[int, int]] = set()

    def write(self, event: ReplyEvent) -> bytes:
        match event:
            case PartStarted(part=part, kind="text", choice=choice):
                self._texts.add((choice, part))
            case PartDelta() if (event.choice, event.part) in self._texts:
                return encode({"say": event.text}) + b"\n"
            case Finished():
                self._finish = event.finish
            case UsageSeen():
                self._usage = event.usage
            case Ended():
                return encode({"why": self._finish.reason, **_counts(self._usage)}) + b"\n"
            case Failed():
                return encode(_error(event.fault)) + b"\n"
            case _:
                pass
        return b""


class ExampleTalk:
    name = NAME
    title = TITLE
    wire_names = WireNames(
        content=frozenset({"say"}),
        elsewhere=frozenset({"kept_talk"}),
        feature_fields={"pictures": "images"},
        headers=frozenset({"x-example-client"}),
    )
    routes = (Route("POST", "/example/talk", "chat"),)
    stream_type = "application/x-ndjson"
    client_headers = ("x-example-client",)
    error_headers = ("x-example-error",)

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers, path
        body = read_body(raw)
        longest = maybe_int(body.get("longest"), "longest")
        stream = maybe_bool(body.get("stream"), "stream") or False
        return Call(NAME, operation, as_text(body.get("model"), "model"), stream, raw, max_output_tokens=longest)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        del host
        return Written(json_splice.splice(call.raw, {"model": encode(model)}))

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream
        if operation != "chat":
            raise Unsupported(operation, TITLE)
        return "/talk"

    def read_chat(self, call: Call) -> Chat:
        body = read_body(call.raw)
        lines = as_list(body.get("lines"), "lines")
        return Chat(
            NAME,
            call.model,
            tuple(_message(as_object(line, f"lines[{n}]"), f"lines[{n}]") for n, line in enumerate(lines)),
            stream=call.stream,
            include_usage=True,
            max_output_tokens=call.max_output_tokens,
            extras={key: value for key, value in body.items() if key not in _KNOWN},
        )

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        del host
        for name in _CANNOT_BE_LEFT_OUT:
            if getattr(chat, name):
                raise Unsupported(name, TITLE)
        lines: list[JsonObject] = []
        dropped = {name for name, value in chat.extras.items() if value is not None}
        for number, message in enumerate(chat.messages):
            if any(not isinstance(part, Text) for part in message.parts):
                raise Unsupported(f"messages[{number}].content", TITLE)
            text = "".join(part.text for part in message.parts if isinstance(part, Text))
            lines.append({"from": "model" if message.role == "assistant" else message.role, "text": text})
        dropped.update(name for name in ("temperature", "top_p", "seed", "user") if getattr(chat, name) is not None)
        body: JsonObject = {"model": model, "lines": lines}
        if chat.stream:
            body["stream"] = True
        if chat.max_output_tokens is not None:
            body["longest"] = chat.max_output_tokens
        return Written(encode(body), tuple(sorted(dropped)))

    def read_reply(self, body: bytes) -> Reply:
        try:
            row = decode(body)
        except UNREADABLE as error:
            raise UpstreamError("the provider's reply is not JSON") from error
        if not isinstance(row, dict) or not isinstance(row.get("said"), str):
            raise UpstreamError("the provider's reply has no text in `said`")
        choice = Choice((Text(row["said"]),), _finish(row.get("why")))
        return Reply(NAME, None, None, (choice,), _usage(row))

    def read_summary(self, body: bytes) -> ReplySummary | None:
        del body
        return None  # every reply is read in full

    def write_reply(self, reply: Reply) -> bytes:
        said = "".join(part.text for choice in reply.choices for part in choice.parts if isinstance(part, Text))
        finish = reply.choices[0].finish if reply.choices else None
        why = finish.reason if finish is not None else "stop"
        return encode({"model": reply.model, "said": said, "why": why, **_counts(reply.usage or Usage())})

    cites = False
    signs_thinking = False

    def can_contain(self, part: Part) -> bool:
        return isinstance(part, Text)

    def reader(self, content_type: str) -> ExampleReader:
        del content_type
        return ExampleReader()

    def writer(self, call: Call) -> ExampleWriter:
        del call
        return ExampleWriter()

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        del headers
        try:
            row = decode(body)
        except UNREADABLE:
            row = None
        wrong = row.get("wrong") if isinstance(row, dict) else None
        return Fault(status, kind_of(status), wrong if isinstance(wrong, str) else body.decode("utf-8", "replace"))

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return fault.status, [("content-type", "application/json")], encode(_error(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode([card.id for card in models])

    def write_model(self, card: ModelCard) -> bytes:
        return encode(card.id)


def _message(line: JsonObject, path: str) -> Message:
    match as_text(line.get("from"), f"{path}.from"):
        case "user":
            return Message("user", (Text(as_text(line.get("text"), f"{path}.text")),))
        case "model":
            return Message("assistant", (Text(as_text(line.get("text"), f"{path}.text")),))
        case "system":
            return Message("system", (Text(as_text(line.get("text"), f"{path}.text")),))
        case other:
            raise BadRequest(f"{path}.from must be user, model or system, not {other!r}", param=f"{path}.from")


def _finish(why: object) -> Finish:
    return Finish("length" if why == "length" else "stop", why if isinstance(why, str) else None)


def _usage(row: JsonObject) -> Usage:
    counts = [count if isinstance(count, int) else 0 for count in (row.get("in"), row.get("out"))]
    return Usage(input=counts[0], output=counts[1])


def _counts(usage: Usage) -> JsonObject:
    return {"in": usage.prompt, "out": usage.completion}


def _error(fault: Fault) -> JsonObject:
    return {"wrong": fault.message, "kind": fault.kind}


PLUGIN = ExampleTalk()
