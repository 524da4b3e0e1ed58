"""A JSON object is asked for in the prompt of a format without a JSON mode, and the reply is checked."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from player import Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.dialects.crossing import JSON_PROMPT
from edge_extproc.exchange.commands import Continue
from edge_extproc.exchange.json_answers import JsonAnswers, json_reply
from edge_extproc.model.content import Refusal, Text, ToolCall
from edge_extproc.model.reply import (
    Choice,
    Failed,
    Finish,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Reply,
    ReplyEvent,
)

OBJECT = '{"a": [1, "```"]}'
GOOD = [
    OBJECT,
    f" {OBJECT}\n",
    f"```json\n{OBJECT}\n```",
    f"\n```\n{OBJECT}\n```\n",
    "{}",
    "```json\n{\n}\n```",
    f"```json\n{OBJECT}",
]
BAD = ["", "Sure! {}", "[1]", '"text"', f"Here:\n```json\n{OBJECT}\n```", "``` {}", "`{}`", "{"]
ASKED = {
    "model": "claude",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A loaf."}],
    "response_format": {"type": "json_object"},
}


def reply(text: str, reason: str = "stop", *more: Any) -> Reply:
    parts = (*more, Text(text)) if text else more
    return Reply("anthropic_messages", "i", "m", (Choice(parts, Finish(reason)),), None)  # type: ignore[arg-type]


def events(*pieces: str, reason: str = "stop") -> list[ReplyEvent]:
    return [
        PartStarted(0, "text"),
        *(PartDelta(0, piece) for piece in pieces),
        PartEnded(0),
        Finished(Finish(reason)),  # type: ignore[arg-type]
    ]


def told(*pieces: str, reason: str = "stop") -> tuple[str, bool]:
    """The text for the caller, and whether the stream failed."""
    checker, text, failed = JsonAnswers(), "", False
    for event in events(*pieces, reason=reason):
        for out in checker.checked([event]):
            text += out.text if isinstance(out, PartDelta) else ""
            failed = failed or isinstance(out, Failed)
    return text, failed


@pytest.mark.parametrize("text", GOOD)
def test_an_object_passes_without_its_fence(text: str) -> None:
    found = json_reply(reply(text))

    assert found is not None
    assert isinstance(found.choices[0].parts[0], Text)
    assert isinstance(json.loads(found.choices[0].parts[0].text), dict)
    streamed, failed = told(text)
    assert isinstance(json.loads(streamed), dict)
    assert not failed


@pytest.mark.parametrize("text", BAD)
def test_another_text_is_an_error(text: str) -> None:
    assert json_reply(reply(text)) is None
    assert told(text)[1]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "pause"])
def test_a_reply_that_did_not_end_by_itself_is_not_checked(text: str, reason: str) -> None:
    given_reply = reply(text, reason)

    assert json_reply(given_reply) is given_reply
    assert not told(text, reason=reason)[1]


def test_calls_and_refusals_are_not_checked() -> None:
    for part, kind in ((ToolCall("c", "f", "{}"), "tool_call"), (Refusal("no"), "refusal")):
        given_reply = reply("Let me look.", "stop", part)
        checker = JsonAnswers()
        started: list[ReplyEvent] = [PartStarted(1, kind), PartEnded(1)]  # type: ignore[arg-type]
        out = checker.checked([*started, *events("Let me look.")])

        assert json_reply(given_reply) is given_reply
        assert not any(isinstance(event, Failed) for event in out)


@given(text=st.sampled_from(GOOD + BAD), cuts=st.lists(st.integers(0, 40), max_size=8))
def test_portions_do_not_matter(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]

    assert told(text) == told(*pieces)


def claude(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }


def stream(*texts: str) -> list[bytes]:
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**claude(""), "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return [f"event: {v['type']}\ndata: {json.dumps(v)}\n\n".encode() for v in values]


def test_claude_is_asked_and_its_fence_is_removed() -> None:
    _, request, head, last = talk(
        Stage().exchange(), headers(), body(ASKED), answered(), whole(claude(f"```json\n{OBJECT}\n```"))
    )

    assert isinstance(request, Continue)
    assert isinstance(head, Continue)
    assert isinstance(last, Continue)
    system = json.loads(request.body or b"")["system"]
    assert f"Be brief.{JSON_PROMPT}" == "".join(part["text"] for part in system)
    assert "x-edge-dropped" not in dict(head.set_headers)
    assert OBJECT == json.loads(last.body or b"")["choices"][0]["message"]["content"]


def test_claude_that_writes_no_json_is_a_502() -> None:
    *_, last = talk(Stage().exchange(), headers(), body(ASKED), answered(), whole(claude("Sure, here it is.")))

    assert isinstance(last, Continue)
    assert ("502", "malformed_answer") == (
        dict(last.set_headers)[":status"],
        json.loads(last.body or b"")["error"]["code"],
    )


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain"])
@pytest.mark.parametrize(("texts", "fails"), [(("``", "`json\n{", "}\n``", "`"), False), (("Sure", ", here."), True)])
def test_a_stream_is_checked_too(content_type: str, texts: tuple[str, ...], fails: bool) -> None:
    commands = talk(
        Stage().exchange(),
        headers(),
        body({**ASKED, "stream": True}),
        answered(content_type=content_type),
        *chunks(*stream(*texts)),
    )
    out = b"".join(command.body or b"" for command in commands[3:] if isinstance(command, Continue))
    lines = [line[6:] for line in out.split(b"\n") if line.startswith(b"data: {")]
    values = [json.loads(line) for line in lines]
    text = "".join(c["delta"].get("content") or "" for v in values for c in v.get("choices", ()))

    assert fails == any("error" in value for value in values)
    assert fails == (b"[DONE]" not in out)
    assert fails or text == "{}"


@pytest.mark.parametrize(("text", "fails"), [("```\n{}\n```", False), ("Sure.", True)])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_complete_reply_to_a_stream_is_checked_too(content_type: str, text: str, fails: bool) -> None:
    commands = talk(
        Stage().exchange(),
        headers(),
        body({**ASKED, "stream": True}),
        answered(content_type=content_type),
        whole(claude(text)),
    )
    out = b"".join(command.body or b"" for command in commands[3:] if isinstance(command, Continue))

    assert fails == (b"malformed_answer" in out)
    assert fails or b'"{}"' in out


def test_a_stream_for_a_caller_of_a_complete_reply_is_checked_too() -> None:
    *_, last = talk(
        Stage().exchange(),
        headers(),
        body(ASKED),
        answered(content_type="text/event-stream"),
        whole(b"".join(stream("```\n{}", "\n```"))),
    )

    assert isinstance(last, Continue)
    assert "{}" == json.loads(last.body or b"")["choices"][0]["message"]["content"]
