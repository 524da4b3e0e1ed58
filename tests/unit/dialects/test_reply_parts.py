"""No part of a reply vanishes: for every ordered pair of dialects, each kind of part that the provider's format has
either arrives in the caller's format or is named, in a whole reply and in a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cells import each_cell
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES, events_of
from crossings import DIALECTS as FOUR
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.dialects.dropping import lost_in
from edge_extproc.exchange.relay import CrossRelay, as_stream
from edge_extproc.model.call import Call
from edge_extproc.model.content import Audio, FileRef, Image, Inline, Url
from edge_extproc.model.reply import Choice, Ended, Finish, Reply, unfold

CONVERSE = BEDROCK.name
DIALECTS = {**FOUR, CONVERSE: BEDROCK}
PAIRS = [(source, target) for source in DIALECTS for target in DIALECTS if source != target]
PICTURE = base64.b64encode(b"the bytes of a picture").decode()
SOUND = base64.b64encode(b"the bytes of a sound").decode()
SEALED = base64.b64encode(b"sealed thoughts").decode()
GRAPH = base64.b64encode(b"the bytes of another picture").decode()
MARKS_OF_NAMED = {PICTURE, GRAPH, SOUND, SEALED, "sealed thoughts", "https://host/picture.png"}
DATA_URI = f"data:image/png;base64,{PICTURE}"

CITED = {"url": "https://source.example", "title": "t", "start_index": 0, "end_index": 4}
# Items of OpenAI Responses for tools that the provider or the caller executes, with their required fields.
HOSTED_ITEMS: dict[str, dict[str, Any]] = {
    "file_search_call": {"queries": []},
    "code_interpreter_call": {"code": "1", "container_id": "c", "outputs": []},
    "computer_call": {"call_id": "call_9", "action": {"type": "wait"}, "pending_safety_checks": []},
    "mcp_call": {"name": "a", "server_label": "s", "arguments": "{}"},
    "mcp_list_tools": {"server_label": "s", "tools": []},
    "mcp_approval_request": {"name": "a", "server_label": "s", "arguments": "{}"},
    "tool_search_output": {"tools": []},
    "compaction": {"encrypted_content": "x"},
    "shell_call_output": {"call_id": "call_8", "output": []},
    "apply_patch_call_output": {"call_id": "call_8", "output": ""},
}

# Of each dialect: the name of a kind of part, the part on the wire, and what of it the caller must find.
Sample = tuple[Any, str]
SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    CHAT: {
        "text": ({"content": "SAID"}, "SAID"),
        "refusal": ({"refusal": "REFUSED"}, "REFUSED"),
        "thinking": ({"reasoning_content": "THOUGHT"}, "THOUGHT"),
        "sealed": ({"thinking_blocks": [{"type": "redacted_thinking", "data": SEALED}]}, SEALED),
        "call": (
            {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "TOOL", "arguments": "{}"}}]},
            "TOOL",
        ),
        "picture": ({"images": [{"type": "image_url", "image_url": {"url": DATA_URI}}]}, PICTURE),
        "picture by URL": (
            {"images": [{"type": "image_url", "image_url": {"url": "https://host/picture.png"}}]},
            "https://host/picture.png",
        ),
        "picture in content": ({"content": [{"type": "image_url", "image_url": {"url": DATA_URI}}]}, PICTURE),
        "sound": ({"audio": {"id": "audio_1", "data": SOUND, "expires_at": 1, "transcript": "SPOKEN"}}, SOUND),
        "transcript": ({"audio": {"id": "audio_1", "data": SOUND, "expires_at": 1, "transcript": "SPOKEN"}}, "SPOKEN"),
        "source": (
            {"content": "SAID", "annotations": [{"type": "url_citation", "url_citation": CITED}]},
            "https://source.example",
        ),
        "custom call": (
            {"tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "TOOL", "input": "INPUT"}}]},
            "INPUT",
        ),
        "older call": ({"function_call": {"name": "TOOL", "arguments": '{"a": "OLD"}'}}, "OLD"),
        "thinking in content": (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "THOUGHT"}]}]},
            "THOUGHT",
        ),
        "thinking in details": ({"reasoning_details": [{"type": "reasoning.text", "text": "THOUGHT"}]}, "THOUGHT"),
        "summary in details": (
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "THOUGHT"}]},
            "THOUGHT",
        ),
        "sealed in details": ({"reasoning_details": [{"type": "reasoning.encrypted", "data": SEALED}]}, SEALED),
        "unknown": ({"content": [{"type": "hologram", "data": "x"}]}, "hologram"),
    },
    RESPONSES: {
        "text": (
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "SAID"}],
            },
            "SAID",
        ),
        "refusal": (
            {"type": "message", "id": "msg_2", "role": "assistant", "content": [{"type": "refusal", "refusal": "NO"}]},
            "NO",
        ),
        "thinking": (
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "THOUGHT"}]},
            "THOUGHT",
        ),
        "call": (
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "TOOL", "arguments": "{}"},
            "TOOL",
        ),
        "picture": (
            {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PICTURE},
            PICTURE,
        ),
        "source": (
            {
                "type": "message",
                "id": "msg_3",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "SAID", "annotations": [{"type": "url_citation", **CITED}]}
                ],
            },
            "https://source.example",
        ),
        "whole thinking": (
            {
                "type": "reasoning",
                "id": "rs_2",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "THOUGHT"}],
            },
            "THOUGHT",
        ),
        "custom call": (
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "TOOL", "input": "INPUT"},
            "INPUT",
        ),
        "call in a namespace": (
            {
                "type": "function_call",
                "id": "fc_2",
                "call_id": "call_3",
                "name": "TOOL",
                "namespace": "n",
                "arguments": "{}",
            },
            "TOOL",
        ),
        **{
            kind: ({"type": kind, "id": f"{kind}_1", "status": "completed", **more}, kind)
            for kind, more in HOSTED_ITEMS.items()
        },
        "search": ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, "web_search_call"),
    },
    MESSAGES: {
        "text": ({"type": "text", "text": "SAID"}, "SAID"),
        "thinking": ({"type": "thinking", "thinking": "THOUGHT", "signature": "c2ln"}, "THOUGHT"),
        "sealed": ({"type": "redacted_thinking", "data": SEALED}, SEALED),
        "call": ({"type": "tool_use", "id": "toolu_1", "name": "TOOL", "input": {"a": 1}}, "TOOL"),
        "source": (
            {
                "type": "text",
                "text": "SAID",
                "citations": [{"type": "web_search_result_location", **CITED, "encrypted_index": "x"}],
            },
            "https://source.example",
        ),
        **{
            kind: ({"type": kind, "tool_use_id": "srvtoolu_1", "content": []}, kind)
            for kind in (
                *("web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result", "mcp_tool_result"),
                *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
                *("tool_search_tool_result", "advisor_tool_result"),
            )
        },
        "mcp call": (
            {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "a", "server_name": "s", "input": {}},
            "mcp_tool_use",
        ),
        "file": ({"type": "container_upload", "file_id": "file_1"}, "container_upload"),
        "summary": ({"type": "compaction", "content": "COMPACTED"}, "compaction"),
        "search": (
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            "server_tool_use",
        ),
    },
    GEMINI: {
        "text": ({"text": "SAID"}, "SAID"),
        "thinking": ({"text": "THOUGHT", "thought": True}, "THOUGHT"),
        "call": ({"functionCall": {"name": "TOOL", "args": {"a": 1}}}, "TOOL"),
        "picture": ({"inlineData": {"mimeType": "image/png", "data": PICTURE}}, PICTURE),
        "signed picture": (
            {"inlineData": {"mimeType": "image/png", "data": GRAPH}, "thoughtSignature": "c2ln"},
            GRAPH,
        ),
        "sound": ({"inlineData": {"mimeType": "audio/wav", "data": SOUND}}, SOUND),
        "film": ({"inlineData": {"mimeType": "video/mp4", "data": SOUND}}, "inlineData"),
        "drafted picture": ({"inlineData": {"mimeType": "image/png", "data": PICTURE}, "thought": True}, "inlineData"),
        "picture by URL": (
            {"fileData": {"mimeType": "image/png", "fileUri": "https://host/picture.png"}},
            "https://host/picture.png",
        ),
        "signed call": (
            {"functionCall": {"name": "SIGNED", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
            "SIGNED",
        ),
        "result of code": ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, "codeExecutionResult"),
        "hosted call": ({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "1", "args": {}}}, "toolCall"),
        "hosted result": ({"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "1"}}, "toolResponse"),
        "code": ({"executableCode": {"language": "PYTHON", "code": "1"}}, "executableCode"),
    },
    CONVERSE: {
        "text": ({"text": "SAID"}, "SAID"),
        "thinking": ({"reasoningContent": {"reasoningText": {"text": "THOUGHT"}}}, "THOUGHT"),
        "sealed": ({"reasoningContent": {"redactedContent": SEALED}}, "sealed thoughts"),
        "call": ({"toolUse": {"toolUseId": "tooluse_1", "name": "TOOL", "input": {"a": 1}}}, "TOOL"),
        "picture": ({"image": {"format": "png", "source": {"bytes": PICTURE}}}, PICTURE),
        "source": (
            {
                "citationsContent": {
                    "content": [{"text": "CITED"}],
                    "citations": [{"title": "t", "location": {"web": {"url": "https://source.example"}}}],
                }
            },
            "https://source.example",
        ),
        "cited text": ({"citationsContent": {"content": [{"text": "CITED"}], "citations": []}}, "CITED"),
        "sound": ({"audio": {"format": "wav", "source": {"bytes": SOUND}}}, "audio"),
        "document": ({"document": {"format": "pdf", "name": "d", "source": {"bytes": SOUND}}}, "document"),
        "hosted call": (
            {"toolUse": {"toolUseId": "tooluse_2", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
            "toolUse",
        ),
        "hosted result": (
            {"toolResult": {"toolUseId": "tooluse_2", "type": "nova_grounding_result", "content": []}},
            "toolResult",
        ),
        "film": ({"video": {"format": "mp4", "source": {"bytes": SOUND}}}, "video"),
    },
}
CASES = [(source, target, kind) for source, target in PAIRS for kind in SAMPLES[source]]


def reply_of(source: str, parts: list[Any]) -> Reply:
    """A whole reply of these parts, read from the wire."""
    body: dict[str, Any]
    match source:
        case "openai_chat":
            message: dict[str, Any] = {"role": "assistant"}
            for part in parts:
                message.update(part)
            body = {"id": "c1", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
        case "openai_responses":
            body = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": parts}
        case "anthropic_messages":
            body = {"type": "message", "id": "msg_1", "model": "m", "content": parts, "stop_reason": "end_turn"}
        case "gemini_generate":
            body = {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}
            body["usageMetadata"] = {"promptTokenCount": 1}
        case _:
            body = {"output": {"message": {"role": "assistant", "content": parts}}, "stopReason": "end_turn"}
    return DIALECTS[source].read_reply(json.dumps(body).encode())


def call_of(dialect: str) -> Call:
    return Call(dialect, "chat", "m", stream=True, raw=b"{}")


def crossed(source: str, target: str, reply: Reply) -> tuple[str, set[str]]:
    """A reply as a stream of its own format, and what a caller of `target` gets of that; with what is named."""
    wire, _ = as_stream(reply, call_of(source), DIALECTS[source])
    reader = DIALECTS[source].reader(DIALECTS[source].stream_type)
    relay = CrossRelay(
        reader,
        DIALECTS[target].writer(call_of(target)),
        can_contain=DIALECTS[target].can_contain,
        cites=DIALECTS[target].cites,
    )
    told = relay.feed(wire) + relay.close()
    assert relay.tally.ended
    return told.decode("utf-8", "replace"), relay.tally.lost


NAMED = {"https://source.example": "reply.citations", SOUND: "reply.audio", "SPOKEN": "reply.audio"}
"""Names of what is a field of a message or of a text, and no part."""


def is_there(mark: str, told: str, lost: set[str]) -> bool:
    if NAMED.get(mark) in lost:
        return True
    return mark in told or base64.b64encode(mark.encode()).decode() in told or any(mark in name for name in lost)


@each_cell(("source", "target", "kind"), CASES)
def test_a_part_of_a_whole_reply_arrives_or_is_named(source: str, target: str, kind: str) -> None:
    part, mark = SAMPLES[source][kind]
    reply = reply_of(source, [part])
    told = DIALECTS[target].write_reply(reply).decode()
    lost = set(lost_in(reply, DIALECTS[target]))

    assert is_there(mark, told, lost) or named_instead(reply, told, lost)


@each_cell(("source", "target", "kind"), CASES)
def test_a_part_of_a_stream_arrives_or_is_named(source: str, target: str, kind: str) -> None:
    part, mark = SAMPLES[source][kind]
    reply = reply_of(source, [part])
    told, lost = crossed(source, target, reply)

    assert is_there(mark, told, lost) or named_instead(reply, told, lost)
    if kind == "film":  # no header is left to name it
        assert "The model made a file (" in told


def named_instead(reply: Reply, told: str, lost: set[str]) -> bool:
    """A part that our nouns have a word for is named by that; a picture or a sound also in the reply's own text."""
    (part,) = reply.choices[0].parts
    name = f"reply.{type(part).__name__.lower()}"
    said = not isinstance(part, Image | Audio) or "It was left out." in told
    return name in lost and said


def fields_of(kind: str) -> set[str]:
    """The fields of a chat's message for a part. `reasoning_details` has the thinking of the other fields too."""
    fields = set(SAMPLES[CHAT][kind][0])
    return fields | {"reasoning_content", "thinking_blocks"} if "reasoning_details" in fields else fields


@given(st.sampled_from(PAIRS), st.data())
def test_parts_in_any_order_arrive_or_are_named(pair: tuple[str, str], data: st.DataObject) -> None:
    source, target = pair
    kinds = data.draw(st.lists(st.sampled_from(sorted(SAMPLES[source])), min_size=1, max_size=6, unique=True))
    if source == CHAT:  # one message: several parts at one field would replace each other
        fields: set[str] = set()
        kinds = [k for k in kinds if not (f := fields_of(k)) & fields and not fields.update(f)]
    samples = [SAMPLES[source][kind] for kind in kinds]
    reply = reply_of(source, [part for part, _ in samples])
    whole = DIALECTS[target].write_reply(reply).decode()
    for told, lost in ((whole, set(lost_in(reply, DIALECTS[target]))), crossed(source, target, reply)):
        missing = [mark for _, mark in samples if not is_there(mark, told, lost)]
        kept_out = {name for name in lost if name in ("reply.image", "reply.audio", "reply.redactedthinking")}
        assert not missing or (kept_out and set(missing) <= MARKS_OF_NAMED)


@pytest.mark.parametrize("target", DIALECTS)
@pytest.mark.parametrize(
    "media",
    [
        Image(Inline("image/png", PICTURE)),
        Image(Inline("image/tiff", PICTURE)),
        Image(Url("https://host/picture.png")),
        Image(FileRef("file-1")),
        Audio(Inline("audio/wav", SOUND)),
        Audio(Url("https://host/sound.wav")),
    ],
)
def test_every_source_of_media_arrives_or_is_told(target: str, media: Image | Audio) -> None:
    source = next(name for name in DIALECTS if name != target)
    reply = Reply(source, "id", "m", (Choice((media,), Finish("stop")),))
    writer = DIALECTS[target].writer(call_of(target))
    whole = DIALECTS[target].write_reply(reply)
    streamed = b"".join(writer.write(event) for event in unfold(reply))
    where = media.source
    mark = where.data if isinstance(where, Inline) else where.url if isinstance(where, Url) else where.id

    for told in (whole, streamed):
        if DIALECTS[target].can_contain(media):
            assert mark.encode() in told
        else:
            assert b"It was left out." in told


@pytest.mark.parametrize("source", DIALECTS)
def test_a_reply_of_its_own_format_keeps_every_part(source: str) -> None:
    for part, mark in SAMPLES[source].values():
        reply = reply_of(source, [part])

        assert is_there(mark, DIALECTS[source].write_reply(reply).decode(), set())
        events = events_of(
            DIALECTS[source], b"".join(map(DIALECTS[source].writer(call_of(source)).write, unfold(reply)))
        )
        assert isinstance(events[-1], Ended)
        assert () == lost_in(reply, DIALECTS[source])
