"""Real traffic of the chat completions API, of two dozen hosts: what is read and written in this dialect says the same
as before, and OpenAI's own types read what we write."""

from __future__ import annotations

import json
from typing import Any

from cells import each_cell
from chat_grammar import chunks_of, hold_to_the_grammar
from crossings import call_of, events_of
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from recordings import body, recordings
from thoroughness import examples

from edge_extproc.dialects.openai_chat import PLUGIN
from edge_extproc.dialects.openai_chat.fields import NAME
from edge_extproc.dialects.openai_chat.reply import reply_call_id
from edge_extproc.errors import UpstreamError
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import Choice, Ended, Failed, Garbled, fold

EVERY = {r["id"]: r for r in recordings("chat_completions")}
GOOD = {id: r for id, r in EVERY.items() if r["response"]["status"] == 200}
STREAMS = sorted(id for id, r in GOOD.items() if r["streaming"])
REPLIES = sorted(GOOD.keys() - set(STREAMS))
ERRORS = sorted(id for id, r in EVERY.items() if r["response"]["status"] != 200)


# What says the same as its absence.
EMPTY: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "tools": ([],),
    "tool_calls": ([],),
    "content": ([],),
    "refusal": ("",),
    "arguments": ("",),
    "function_call": ({"arguments": "", "name": ""},),
    "id": ("",),
}


def same(value: Any) -> Any:
    """Spellings of one thing made equal: OpenAI's own, and those that single hosts have besides."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    told = {k: same(v) for k, v in value.items() if v is not None and v not in EMPTY.get(k, ())}
    match told:
        case {"content": [{"type": "text", "text": str(text), **rest}]} if not rest:
            told["content"] = text
        case {"content": dict(content)}:  # Cloudflare gives the object itself for JSON
            told["content"] = json.dumps(content, separators=(",", ":"))
        case {"image_url": str(url)}:  # Mistral's
            told["image_url"] = {"url": url}
        case {"function": dict()}:  # Mistral leaves the type out, several count calls in a whole answer
            told.setdefault("type", "function")
            told.pop("index", None)
        case {"type": "thinking", "thinking": list(parts)}:  # Mistral streams it word by word
            told["thinking"] = "".join(part["text"] for part in parts)
    if isinstance(told.get("stop"), str):
        told["stop"] = [told["stop"]]
    if told.get("tool_choice") == "any":  # Mistral's word
        told["tool_choice"] = "required"
    return told


@each_cell("id", sorted(EVERY))
def test_splicing_changes_the_model_and_asks_for_usage_alone(id: str) -> None:
    call = call_of(EVERY[id])

    written = json.loads(PLUGIN.splice(call, "another").body)

    expected = json.loads(call.raw) | {"model": "another"}
    if call.stream:
        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    assert expected == written
    if call.wants_usage:
        # Mistral's models get a message of the assistant between a tool's and a user's.
        assert call.raw == PLUGIN.splice(call, call.model).body.replace(b'{"role":"assistant","content":"OK."},', b"")


@each_cell("id", REPLIES)
def test_a_reply_read_and_written_again_says_the_same(id: str) -> None:
    raw = body(GOOD[id]["response"])
    try:
        reply = PLUGIN.read_reply(raw)
    except UpstreamError:
        assert "choices" not in json.loads(raw)
        return

    written = PLUGIN.write_reply(reply)

    expected, actual = same(json.loads(raw)), same(json.loads(written))
    assert expected == {key: actual[key] for key in actual if key in expected}


def said(choice: Choice) -> Any:
    """What a choice says. How a host spells its thinking stays with it: our streams have one way."""
    texts = "".join(part.text for part in choice.parts if isinstance(part, Text))
    # An id that OpenAI would refuse in the history is written as one that it takes.
    calls = [(reply_call_id(p.id), p.name, p.arguments or "{}") for p in choice.parts if isinstance(p, ToolCall)]
    return texts, calls, choice.finish.reason if choice.finish else "stop"


@each_cell("id", STREAMS)
def test_a_stream_written_anew_says_the_same(id: str) -> None:
    events = events_of(PLUGIN, body(GOOD[id]["response"]))

    assert not any(isinstance(event, Garbled) for event in events)
    if isinstance(events[-1], Failed):
        assert any("error" in chunk for chunk in chunks_of(body(GOOD[id]["response"])) if chunk != "[DONE]")
        return
    assert isinstance(events[-1], Ended)
    writer = PLUGIN.writer(call_of(GOOD[id]))
    wire = b"".join(writer.write(event) for event in events)
    hold_to_the_grammar(wire)
    before, after = fold(NAME, events), fold(NAME, events_of(PLUGIN, wire))
    ChatCompletion.model_validate_json(PLUGIN.write_reply(after))
    assert before.usage == after.usage or not call_of(GOOD[id]).wants_usage
    assert [said(choice) for choice in before.choices] == [said(choice) for choice in after.choices]


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_portions_of_real_streams_do_not_matter(data: st.DataObject) -> None:
    wire = body(GOOD[data.draw(st.sampled_from(STREAMS))]["response"])

    assert events_of(PLUGIN, wire) == events_of(PLUGIN, wire, data.draw(st.integers(1, 64)))


@each_cell("id", ERRORS)
def test_an_error_keeps_its_status_and_words(id: str) -> None:
    answer = EVERY[id]["response"]

    fault = PLUGIN.read_error(answer["status"], tuple(answer["headers"].items()), body(answer))
    status, _, written = PLUGIN.write_error(fault)

    assert answer["status"] == status
    assert {"message", "type", "param", "code"} == json.loads(written)["error"].keys()
    assert json.loads(written)["error"]["message"]
