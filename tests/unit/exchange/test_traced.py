"""What an exchange does where it is traced: its id goes to the provider, and what was said into its settlement."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS, Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.trace import Parent, Trace, Transcript

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
CHUNK = {**REPLY, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
LAST = {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
WIRE = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (CHUNK, LAST)) + b"data: [DONE]\n\n"
TRACE, SPAN = "4b" * 16, "00f067aa0ba902b7"


class Tracer:
    """Follows every parent, and begins a trace where there is none."""

    def __init__(self, *, content: bool = True) -> None:
        self.content = content

    def begin(self, parent: Parent | None) -> Trace:
        return Trace(parent.trace_id if parent else "ab" * 16, "cd" * 8, parent.span_id if parent else None)


def settled(*events: Any, tracer: Tracer | None = None, traceparent: str | None = None, **changes: Any) -> Any:
    stage = Stage().having(tracer=tracer or Tracer(), **changes)
    exchange = RouterExchange(stage.gateway, stage.open, traceparent)
    commands = talk(exchange, *events)
    exchange.closed("done")
    (settlement,) = stage.settled
    return settlement, commands, stage


def test_the_provider_is_told_our_span() -> None:
    settlement, commands, _ = settled(headers(), body(ASKED), traceparent=f"00-{TRACE}-{SPAN}-01")
    told = f"00-{TRACE}-{'cd' * 8}-01"

    assert dict(commands[1].set_headers)["traceparent"] == commands[1].metadata["edge"]["traceparent"] == told
    assert settlement.trace == Trace(TRACE, "cd" * 8, SPAN)
    assert settlement.trace_id == TRACE


def test_envoys_span_goes_before_the_callers_header() -> None:
    callers = headers("/v1/chat/completions", ("traceparent", f"00-{'11' * 16}-{SPAN}-01"))

    assert settled(callers)[0].trace_id == "11" * 16
    assert settled(callers, traceparent=f"00-{TRACE}-{SPAN}-01")[0].trace_id == TRACE


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [
        (ASKED, (answered(), whole(REPLY)), "Hi"),
        ({**ASKED, "stream": True}, (answered(content_type="text/event-stream"), *chunks(WIRE)), "Hi"),
        (ASKED, (), ""),
    ],
)
def test_what_was_said_is_told_where_content_is_wanted(asked: Any, answer: Any, said: str) -> None:
    assert settled(headers(), body(asked), *answer)[0].transcript == Transcript((("user", "Hello"),), said)
    assert settled(headers(), body(asked), *answer, tracer=Tracer(content=False))[0].transcript is None


def test_what_cannot_be_read_is_not_told() -> None:
    unreadable = {**ASKED, "messages": [{"role": "user", "content": 7}]}

    assert settled(headers(), body(unreadable), answered(), whole(REPLY))[0].transcript is None


def test_a_bug_on_the_way_does_not_keep_an_exchange_from_being_settled() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(DIALECTS["openai_chat"], name)

        def read_chat(self, call: object) -> object:
            raise RuntimeError(f"cannot read {call}")

    broken: Any = {**DIALECTS, "openai_chat": Broken()}
    stage = Stage().having(tracer=Tracer(), dialects=broken, routes=PathRouter(broken))
    exchange = stage.exchange()
    talk(exchange, headers(), body(ASKED), answered(), whole(REPLY))
    exchange.closed("done")

    assert [None] == [each.transcript for each in stage.settled]
    assert [RuntimeError] == [type(bug) for bug in stage.bugs]
