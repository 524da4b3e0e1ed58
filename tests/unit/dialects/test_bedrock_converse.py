"""Converse under bodies and streams that no SDK would send: an error that says why, or an answer, and nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc import registry
from edge_extproc.codecs.aws_eventstream import encode, event, exception
from edge_extproc.dialects.base import Dialect, ModelCard
from edge_extproc.dialects.bedrock_converse import PLUGIN
from edge_extproc.dialects.bedrock_converse.models import family_of
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.call import Call
from edge_extproc.model.content import Image, Inline, Opaque, Text, Url
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Choice,
    Ended,
    Failed,
    Garbled,
    PartDelta,
    PartStarted,
    Reply,
    ReplyEvent,
    ReplyStarted,
    fold,
)

PATH = "/model/m/converse"
WORDS = (
    *("text", "image", "document", "audio", "video", "toolUse", "toolResult", "reasoningContent", "redactedContent"),
    *("reasoningText", "citationsContent", "citations", "content", "cachePoint", "guardContent", "json", "source"),
    *("bytes", "format", "name", "input", "toolUseId", "status", "signature", "type", "ttl", "citation", "start"),
    *("delta", "contentBlockIndex", "stopReason", "usage", "inputTokens", "metrics", "message", "originalStatusCode"),
)
KEYS = st.sampled_from(WORDS)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 600)
    | st.sampled_from(("", "png", "pdf", "default", "aGk=", "{}", "x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
BLOCKS = st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=2), max_size=4)
ROLES = st.sampled_from(("user", "assistant", "system"))
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": ROLES, "content": BLOCKS}), max_size=4) | VALUES},
    optional={
        "system": BLOCKS | VALUES,
        "inferenceConfig": st.dictionaries(
            st.sampled_from(("maxTokens", "temperature", "topP", "stopSequences")), VALUES
        ),
        "toolConfig": st.fixed_dictionaries({}, optional={"tools": BLOCKS | VALUES, "toolChoice": VALUES}) | VALUES,
        "additionalModelRequestFields": st.dictionaries(
            st.sampled_from(("thinking", "reasoning_config", "top_k", "output_config", "tool_choice")), VALUES
        ),
        "outputConfig": VALUES,
        "serviceTier": VALUES,
        "requestMetadata": VALUES,
    },
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "messageStart",
                "contentBlockStart",
                "contentBlockDelta",
                "contentBlockStop",
                "messageStop",
                "metadata",
                "x",
            )
        ),
        st.dictionaries(KEYS, VALUES, max_size=3)
        | st.fixed_dictionaries(
            {"contentBlockIndex": st.integers(0, 2), "delta": st.dictionaries(KEYS, VALUES, max_size=2)}
        )
        | st.fixed_dictionaries(
            {"contentBlockIndex": st.integers(0, 2), "start": st.dictionaries(KEYS, VALUES, max_size=1)}
        )
        | st.fixed_dictionaries({"contentBlockIndex": st.integers(0, 2)})
        | VALUES,
    ),
    max_size=12,
)
OTHERS: list[Dialect] = [registry.load("dialects", name) for name in registry.names("dialects") if name != PLUGIN.name]


def call_of(body: Any, path: str = PATH) -> Call:
    return PLUGIN.read_call(body if isinstance(body, bytes) else json.dumps(body).encode(), "chat", (), path)


@settings(max_examples=examples(200))
@given(BODIES)
def test_any_body_is_a_chat_or_a_mistake_of_the_callers(body: Any) -> None:
    try:
        call = call_of(body)
        chat = PLUGIN.read_chat(call)
    except BadRequest:
        return
    for other in OTHERS:
        try:
            other.write_chat(chat, "claude-sonnet-4-5")
        except BadRequest:
            continue


def events_of(wire: bytes) -> list[ReplyEvent]:
    reader = PLUGIN.reader(PLUGIN.stream_type)
    return [e for frame in reader.frames(wire) for e in reader.read(frame)] + reader.close()[1]


@settings(max_examples=examples(200))
@given(EVENTS)
def test_any_stream_is_events_in_a_legal_order(events: list[tuple[str, Any]]) -> None:
    wire = b"".join(event(kind, json.dumps(payload).encode()) for kind, payload in events)
    found = events_of(wire)

    fold(PLUGIN.name, found)  # raises where a part grows that has not begun
    assert isinstance(found[-1], Ended | Failed)
    assert 1 == sum(isinstance(e, Ended | Failed) for e in found)
    begun = [e.part for e in found if isinstance(e, PartStarted)]
    assert list(range(len(begun))) == sorted(begun)
    for dialect in (PLUGIN, *OTHERS):
        writer = dialect.writer(Call(dialect.name, "chat", "m", True, b"{}"))
        for each in found:
            writer.write(each)


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_reply_is_one_or_an_error_of_the_providers(raw: bytes) -> None:
    with contextlib.suppress(UpstreamError):
        PLUGIN.write_reply(PLUGIN.read_reply(raw))
    assert 500 == PLUGIN.read_error(500, (), raw).status


@pytest.mark.parametrize(
    ("body", "path", "why"),
    [
        (b"{", PATH, "is not valid JSON"),
        (b"\xff", PATH, "not valid"),
        (b"[]", PATH, "must be a JSON object, not a list"),
        (b"[" * 100_000, PATH, "nested too deeply"),
        (b"{}", PATH, "messages is missing"),
        (
            b'{"messages":[],"inferenceConfig":{"maxTokens":"x"}}',
            PATH,
            "inferenceConfig.maxTokens must be a whole number",
        ),
        (b'{"messages":[]}', "/model/%ff/converse", "not valid UTF-8"),
        (b'{"messages":[]}', "/model/../converse", "the model in the path is not valid"),
        (b'{"messages":[]}', "/model/a%3Fb/converse", "the model in the path is not valid"),
    ],
)
def test_what_is_no_call_says_why(body: bytes, path: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        call_of(body, path)


NO_JSON = {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": [{"role": "tool", "content": []}]}, "must be user, assistant or system"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, r"messages\[0\].content must be a list"),
        ({"messages": [], "toolConfig": {"tools": [], "toolChoice": {"none": {}}}}, "must be auto, any or tool"),
        ({"messages": [], "outputConfig": {"textFormat": NO_JSON}}, "the schema in .* is not valid JSON"),
    ],
)  # fmt: skip
def test_what_is_no_chat_says_why(body: Any, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        PLUGIN.read_chat(call_of(body))


def test_the_bytes_of_a_caller_are_left_alone() -> None:
    raw = b'{ "messages" : [] , "unknown":1e2 }'

    assert raw == PLUGIN.splice(call_of(raw), "another").body


def test_only_chats_have_a_path() -> None:
    with pytest.raises(Unsupported, match="embeddings"):
        PLUGIN.path("embeddings", "m", stream=False)


def test_a_reply_of_this_dialect_that_came_by_other_ways_must_fit() -> None:
    for source, why in (
        (Url("https://example.com/a.png"), "the API accepts only bytes"),
        (Inline("image/tiff", ""), "the API accepts only png"),
    ):
        reply = Reply(PLUGIN.name, None, None, (Choice((Image(source),), None),))
        with pytest.raises(Unsupported, match=why):
            PLUGIN.write_reply(reply)


@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-4-6-v1", "claude"),
        ("amazon.nova-pro-v1:0", "none"),
        ("us.amazon.nova-2-lite-v1:0", "nova"),
        ("meta.llama3-8b-instruct-v1:0", "none"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "config"),
    ],
)
def test_a_family_is_known_by_its_models_name(model: str, reasoning: str) -> None:
    assert reasoning == family_of(model).reasoning


# --- streams that AWS sends seldom


def test_a_citation_stands_in_a_text_and_nowhere_else() -> None:
    wire = b"".join(
        event("contentBlockDelta", json.dumps({"contentBlockIndex": 0, "delta": delta}).encode())
        for delta in ({"reasoningContent": {"redactedContent": "aGk="}}, {"citation": {"title": "a"}})
    )

    assert Garbled in [type(e) for e in events_of(wire)]
    fold(PLUGIN.name, events_of(wire))


def test_blocks_that_only_bedrock_knows_are_told_whole_and_written_again() -> None:
    use = {"toolUseId": "t", "name": "f", "type": "server_tool_use"}
    result = {"toolUseId": "t", "type": "nova_code_interpreter_result", "status": "success"}
    wire = b"".join(
        event(kind, json.dumps(payload).encode())
        for kind, payload in (
            ("messageStart", {"role": "assistant"}),
            ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": use}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"a":'}}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "1}"}}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolResult": result}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolResult": [{"text": "a"}]}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolResult": [{"json": {"b": 1}}]}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("contentBlockStart", {"contentBlockIndex": 2, "start": {"image": {"format": "png"}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"image": {"source": {"bytes": "aGk="}}}}),
            ("contentBlockStop", {"contentBlockIndex": 2}),
            ("messageStop", {"stopReason": "end_turn"}),
        )
    )  # fmt: skip
    events = events_of(wire)
    parts = fold(PLUGIN.name, events).choices[0].parts

    assert [
        {"toolUse": {"toolUseId": "t", "name": "f", "type": "server_tool_use", "input": {"a": 1}}},
        {"toolResult": {**result, "content": [{"text": "a"}, {"json": {"b": 1}}]}},
    ] == [part.value for part in parts if isinstance(part, Opaque)]
    assert [Image(Inline("image/png", "aGk="))] == [part for part in parts if isinstance(part, Image)]
    writer = PLUGIN.writer(call_of({"messages": []}))
    again = b"".join(writer.write(e) for e in events)
    assert parts == fold(PLUGIN.name, events_of(again)).choices[0].parts


def test_an_error_in_headers_alone_is_told() -> None:
    wire = encode(b"", {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "broken"})

    assert [Failed(Fault(500, "api", "broken", type="InternalFailure"))] == events_of(wire)


def test_nothing_is_heard_after_the_end() -> None:
    wire = exception("throttlingException", b"{}") + event("messageStart", b'{"role":"assistant"}')
    (failed,) = events_of(wire)

    assert isinstance(failed, Failed)
    assert "the provider gave no reason" == failed.fault.message


def test_what_cannot_be_read_is_skipped_and_counted() -> None:
    wire = event("contentBlockDelta", b"{") + event("contentBlockDelta", b"[]") + event("contentBlockDelta", b"{}")

    assert [Garbled, Garbled, Garbled, Failed] == [type(e) for e in events_of(wire)]


def test_a_failure_is_the_last_thing_that_is_written() -> None:
    writer = PLUGIN.writer(call_of({"messages": []}))
    writer.write(ReplyStarted(None, None))
    told = writer.write(Failed(Fault(429, "rate_limit", "slow")))

    assert b"throttlingException" in told
    assert b"" == writer.write(PartDelta(0, "x"))


def test_the_models_are_told_as_bedrocks_control_plane_does() -> None:
    (row,) = json.loads(PLUGIN.write_models([ModelCard("m", "aws")]))["modelSummaries"]

    assert ("m", "aws") == (row["modelId"], row["providerName"])
    assert {"modelDetails": row} == json.loads(PLUGIN.write_model(ModelCard("m", "aws")))


def test_json_of_a_tool_stays_json_and_crosses_as_text() -> None:
    content = [{"toolResult": {"toolUseId": "t", "content": [{"json": {"a": 1}}]}}]
    chat = PLUGIN.read_chat(call_of({"messages": [{"role": "user", "content": content}]}))

    (result,) = chat.messages[0].parts
    assert isinstance(result.parts[0], Text)  # type: ignore[union-attr]  # a tool result, as the body says
    assert '{"a":1}' == result.parts[0].text  # type: ignore[union-attr]
    assert {"a": 1} == result.parts[0].value  # type: ignore[union-attr]  # so two spellings of JSON are one cache key
