"""What a correct translation to and from Bedrock does. The numbers are those of the list of translation behaviours that
this directory is named for: chapter, then entry."""

from __future__ import annotations

import base64
import json
from dataclasses import fields
from typing import Any

import pytest
from botocore.exceptions import EventStreamError
from botocore_oracle import converse_request_errors, parse_converse_stream

from edge_extproc import registry
from edge_extproc.codecs.aws_eventstream import event, exception
from edge_extproc.dialects import anthropic_messages, openai_chat
from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.bedrock_converse import PLUGIN as CONVERSE
from edge_extproc.dialects.bedrock_converse.fields import FIELDS
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.call import Chat
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import Ended, Failed, ReplyEvent, fold
from edge_extproc.providers.base import ProviderSettings, UpstreamCall

CHAT: Dialect = openai_chat.PLUGIN
MESSAGES: Dialect = anthropic_messages.PLUGIN
CLAUDE, CLAUDE_OLD, NOVA = (
    "us.anthropic.claude-opus-4-6-v1",
    "anthropic.claude-sonnet-4-5-v1:0",
    "amazon.nova-2-lite-v1:0",
)
HI = {"role": "user", "content": "Hi"}
PNG = base64.b64encode(b"\x89PNG").decode()
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


def to_converse(model: str = CLAUDE, dialect: Dialect = CHAT, **asked: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request for Bedrock, which holds to the service model, and what was dropped."""
    path = "/v1/messages" if dialect is MESSAGES else "/v1/chat/completions"
    body = {"model": "m", "messages": [HI], **({"max_tokens": 100} if dialect is MESSAGES else {}), **asked}
    call = dialect.read_call(json.dumps(body).encode(), "chat", (), path)
    written = CONVERSE.write_chat(dialect.read_chat(call), model)
    wire = json.loads(written.body)
    assert "" == converse_request_errors(wire, model, stream=call.stream)
    return wire, written.dropped


def refused(**asked: Any) -> str:
    with pytest.raises(BadRequest) as found:
        to_converse(**asked)
    return found.value.message


def reply(content: list[Any], stop: str = "end_turn", **more: Any) -> bytes:
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    output = {"message": {"role": "assistant", "content": content}}
    return json.dumps({"output": output, "stopReason": stop, "usage": usage, **more}).encode()


def openai(raw: bytes) -> Any:
    return json.loads(CHAT.write_reply(CONVERSE.read_reply(raw)))


def anthropic(raw: bytes) -> Any:
    return json.loads(MESSAGES.write_reply(CONVERSE.read_reply(raw)))


def frames(*events: tuple[str, Any]) -> bytes:
    return b"".join(event(kind, json.dumps(payload).encode()) for kind, payload in events)


def delta(index: int, value: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": value, "p": "abc"}


def stop(index: int) -> tuple[str, Any]:
    return "contentBlockStop", {"contentBlockIndex": index}


START = ("messageStart", {"role": "assistant"})
METADATA = ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}})


def events_of(wire: bytes) -> list[ReplyEvent]:
    reader = CONVERSE.reader(CONVERSE.stream_type)
    events = [e for frame in reader.frames(wire) for e in reader.read(frame)]
    return events + reader.close()[1]


def streamed_to(dialect: Dialect, wire: bytes) -> list[Any]:
    """The JSON of each server-sent event."""
    path = "/v1/messages" if dialect is MESSAGES else "/v1/chat/completions"
    body = b'{"model":"m","messages":[],"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}'
    writer = dialect.writer(dialect.read_call(body, "chat", (), path))
    text = b"".join(writer.write(e) for e in events_of(wire)).decode()
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# --- 1. transport


def test_1_1_an_arn_is_one_segment_of_the_path() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1"
    escaped = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-opus-4-6-v1"

    assert f"/model/{escaped}/converse" == CONVERSE.path("chat", arn, stream=False)
    assert f"/model/{escaped}/converse-stream" == CONVERSE.path("chat", arn, stream=True)
    assert arn == CONVERSE.read_call(b'{"messages":[]}', "chat", (), f"/model/{escaped}/converse").model


def invoked(body: dict[str, Any], *, stream: bool = False, betas: tuple[str, ...] = ()) -> tuple[str, Any, Any]:
    provider = registry.load("providers", "bedrock").build(
        ProviderSettings("p", "https://bedrock-runtime.us-east-1.amazonaws.com", lambda: "key")
    )
    raw = json.dumps(body).encode()
    request = provider.request(UpstreamCall("chat", MESSAGES.name, CLAUDE_OLD, stream, "/messages", raw, betas=betas))
    return request.path, json.loads(request.body), request


def test_1_1_a_claude_is_invoked_with_the_callers_own_body() -> None:
    asked = {"model": "m", "stream": True, "max_tokens": 9, "messages": [HI], "unknown": 1}
    path, body, request = invoked(asked, stream=True)

    assert "/model/anthropic.claude-sonnet-4-5-v1%3A0/invoke-with-response-stream" == path
    version = {"anthropic_version": "bedrock-2023-05-31"}
    assert {"max_tokens": 9, "messages": [HI], "unknown": 1} | version == body
    assert "application/vnd.amazon.eventstream" == dict(request.headers)["accept"]
    assert invoked({"model": "m", "messages": []})[0].endswith("/invoke")


def test_1_5_a_reply_of_converse_names_no_model_and_leaves_it_to_who_asked() -> None:
    assert CONVERSE.read_reply(reply([])).model is None


def test_1_8_beta_flags_go_into_the_body_and_unknown_ones_are_named() -> None:
    known, unknown = "context-1m-2025-08-07", "made-up-2030-01-01"
    _, body, request = invoked({"model": "m", "messages": []}, betas=(known, unknown, known))

    assert [known] == body["anthropic_beta"]
    assert (f"anthropic-beta.{unknown}",) == request.dropped
    assert "anthropic_beta" not in invoked({"model": "m", "messages": []}, betas=(unknown,))[1]


# --- 2. requests


def test_2_1_system_and_developer_turns_become_system_blocks_in_order() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    messages = [{"role": "system", "content": "a"}, HI, {"role": "developer", "content": parts}]

    assert [{"text": "a"}, {"text": "b"}, {"text": "c"}] == to_converse(messages=messages)[0]["system"]


def test_2_2_a_cache_mark_of_the_system_prompt_is_an_element_of_its_own() -> None:
    system = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    wire, _ = to_converse(dialect=MESSAGES, system=system)

    assert [{"text": "a"}, {"cachePoint": {"type": "default"}}, {"text": "b"}] == wire["system"]


def test_2_3_a_system_turn_among_the_messages_is_promoted() -> None:
    messages = [HI, {"role": "system", "content": "b"}, {"role": "user", "content": "Go"}]
    wire, _ = to_converse(dialect=MESSAGES, system="a", messages=messages)

    assert [{"text": "a"}, {"text": "b"}] == wire["system"]
    assert [{"role": "user", "content": [{"text": "Hi"}, {"text": "Go"}]}] == wire["messages"]


def test_2_4_a_system_prompt_alone_is_refused() -> None:
    assert "requires one" in refused(messages=[{"role": "system", "content": "a"}])


def test_2_5_tool_results_in_a_row_are_one_turn_of_the_user() -> None:
    calls = [{**ASKED["tool_calls"][0], "id": id} for id in ("a", "b")]  # type: ignore[index]
    results = [{"role": "tool", "tool_call_id": id, "content": id} for id in ("a", "b")]
    wire, _ = to_converse(messages=[HI, {**ASKED, "tool_calls": calls}, *results], tools=[WEATHER])

    expected = [{"toolResult": {"toolUseId": id, "content": [{"text": id}]}} for id in ("a", "b")]
    assert expected == wire["messages"][2]["content"]


def test_2_6_what_the_user_says_after_tool_results_is_in_the_same_turn_behind_them() -> None:
    wire, _ = to_converse(messages=[HI, ASKED, RESULT, {"role": "user", "content": "And?"}], tools=[WEATHER])

    assert ["user", "assistant", "user"] == [m["role"] for m in wire["messages"]]
    assert ["toolResult", "text"] == [next(iter(block)) for block in wire["messages"][2]["content"]]


def test_2_7_turns_of_one_role_in_a_row_become_one() -> None:
    assert [{"role": "user", "content": [{"text": "Hi"}, {"text": "Hi"}]}] == to_converse(messages=[HI, HI])[0][
        "messages"
    ]


def test_2_8_the_user_begins() -> None:
    assert "requires a user message first" in refused(messages=[{"role": "assistant", "content": "a"}, HI])


@pytest.mark.parametrize("empty", ["", " \n"])
def test_2_10_empty_text_never_leaves(empty: str) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": empty}, {"type": "text", "text": "Hi"}]},
        {**ASKED, "content": empty},
        {**RESULT, "content": empty},
        {"role": "assistant", "content": empty},
    ]
    wire, _ = to_converse(messages=messages, tools=[WEATHER])

    assert [{"text": "Hi"}] == wire["messages"][0]["content"]
    assert ["toolUse"] == [next(iter(block)) for block in wire["messages"][1]["content"]]
    assert [{"toolResult": {"toolUseId": "call_1", "content": []}}] == wire["messages"][2]["content"]
    assert 3 == len(wire["messages"])


def test_2_10_a_prefill_does_not_end_in_white_space() -> None:
    older = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    wire, _ = to_converse(older, messages=[HI, {"role": "assistant", "content": "So \n"}])

    assert [{"text": "So"}] == wire["messages"][1]["content"]


def image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def test_2_11_a_picture_goes_as_bytes_and_a_pdf_as_a_document() -> None:
    wire, _ = to_converse(messages=[image(f"data:image/png;base64,{PNG}")])
    assert [{"image": {"format": "png", "source": {"bytes": PNG}}}] == wire["messages"][0]["content"]

    wire, _ = to_converse(messages=[image(f"data:application/pdf;base64,{PNG}")])
    document = {"format": "pdf", "name": "document 1", "source": {"bytes": PNG}}
    assert [{"document": document}] == wire["messages"][0]["content"]


def test_2_11_a_picture_by_url_is_refused_and_never_left_out() -> None:
    assert "the API does not fetch URLs" in refused(messages=[image("https://example.com/a.png")])


def test_2_11_a_picture_in_another_format_is_refused() -> None:
    assert "'image/tiff'; Bedrock Converse accepts image/png" in refused(
        messages=[image(f"data:image/tiff;base64,{PNG}")]
    )


def test_2_14_a_refusal_in_the_history_is_text() -> None:
    messages = [HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}, HI]

    assert [{"text": "No"}] == to_converse(messages=messages)[0]["messages"][1]["content"]


def test_2_18_arguments_are_an_object_and_none_are_an_empty_one() -> None:
    def arguments(text: str) -> Any:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
        wire, _ = to_converse(messages=[HI, {"role": "assistant", "tool_calls": [call]}], tools=[WEATHER])
        return wire["messages"][1]["content"][0]["toolUse"]["input"]

    assert {"a": 1} == arguments('{"a":1}')
    assert {} == arguments("")
    assert {"raw_arguments": "{"} == arguments("{")


def test_2_20_an_id_that_bedrock_would_refuse_is_another_one_in_call_and_result() -> None:
    id = "call|" + "x" * 80
    call = {"id": id, "type": "function", "function": {"name": "f", "arguments": ""}}
    messages = [HI, {"role": "assistant", "tool_calls": [call]}, {**RESULT, "tool_call_id": id}]
    wire, _ = to_converse(messages=messages, tools=[WEATHER])

    used = wire["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert used == wire["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    assert len(used) <= 64
    assert used.replace("_", "").replace("-", "").isalnum()


def test_2_21_tools_of_the_history_are_there_and_may_not_be_called() -> None:
    wire, _ = to_converse(messages=[HI, ASKED, RESULT])

    assert ["weather"] == [tool["toolSpec"]["name"] for tool in wire["toolConfig"]["tools"]]
    assert {"type": "none"} == wire["additionalModelRequestFields"]["tool_choice"]


def test_2_23_a_tool_without_a_description_has_none_and_its_cache_mark_is_an_element() -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    wire, _ = to_converse(dialect=MESSAGES, tools=[tool])

    spec = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
    assert [spec, {"cachePoint": {"type": "default", "ttl": "1h"}}] == wire["toolConfig"]["tools"]


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ],
)
def test_2_25_each_tool_choice_has_its_own(choice: Any, written: Any) -> None:
    more = {} if choice is None else {"tool_choice": choice}

    assert written == to_converse(tools=[WEATHER], **more)[0]["toolConfig"].get("toolChoice")


def test_2_25_none_leaves_the_tools_out_or_forbids_calls_where_the_history_needs_them() -> None:
    assert "toolConfig" not in to_converse(tools=[WEATHER], tool_choice="none")[0]

    asked = {"messages": [HI, ASKED, RESULT], "tools": [WEATHER], "tool_choice": "none"}
    wire, dropped = to_converse(**asked)
    assert "toolChoice" not in wire["toolConfig"]
    assert {"type": "none"} == wire["additionalModelRequestFields"]["tool_choice"]
    assert () == dropped
    assert ("tool_choice",) == to_converse(NOVA, **asked)[1]


def test_2_25_one_call_at_a_time_is_asked_of_claude_and_named_elsewhere() -> None:
    wire, _ = to_converse(tools=[WEATHER], parallel_tool_calls=False)

    expected = {"type": "auto", "disable_parallel_tool_use": True}
    assert expected == wire["additionalModelRequestFields"]["tool_choice"]
    assert ("parallel_tool_calls",) == to_converse(NOVA, tools=[WEATHER], parallel_tool_calls=False)[1]


def test_2_25_one_call_at_a_time_is_named_where_no_call_may_be_made() -> None:
    asked = {"tools": [WEATHER], "tool_choice": "none", "parallel_tool_calls": False}

    assert ("parallel_tool_calls",) == to_converse(**asked)[1]
    assert ("parallel_tool_calls",) == to_converse(messages=[HI, ASKED, RESULT], **asked)[1]


def test_2_26_a_forced_call_and_thinking_do_not_go_together() -> None:
    asked = {"tools": [WEATHER], "tool_choice": "required", "reasoning_effort": "high", "max_completion_tokens": 9000}
    wire, dropped = to_converse(CLAUDE_OLD, **asked)

    assert "thinking" in wire["additionalModelRequestFields"]
    assert {"auto": {}} == wire["toolConfig"]["toolChoice"]
    assert ("tool_choice",) == dropped


def test_2_28_a_limit_is_left_out_where_none_was_given() -> None:
    assert "inferenceConfig" not in to_converse()[0]
    assert {"maxTokens": 7} == to_converse(max_tokens=9, max_completion_tokens=7)[0]["inferenceConfig"]


def test_2_29_the_budget_of_thinking_leaves_the_answer_its_room() -> None:
    wire, _ = to_converse(CLAUDE_OLD, reasoning_effort="medium", max_completion_tokens=100)

    assert {"type": "enabled", "budget_tokens": 2048} == wire["additionalModelRequestFields"]["thinking"]
    assert 2148 == wire["inferenceConfig"]["maxTokens"]


def test_2_30_stop_sequences_of_white_space_are_dropped() -> None:
    wire, dropped = to_converse(stop=["END", "\n"])

    assert ["END"] == wire["inferenceConfig"]["stopSequences"]
    assert ("stop",) == dropped


def test_2_31_a_temperature_over_1_is_refused() -> None:
    assert "accepts 0 to 1" in refused(temperature=1.5)


def test_2_32_settings_without_a_field_go_under_the_makers_own_name_or_are_named() -> None:
    asked = {"dialect": MESSAGES, "top_k": 5}
    assert {"top_k": 5} == to_converse(CLAUDE, **asked)[0]["additionalModelRequestFields"]
    assert {"inferenceConfig": {"topK": 5}} == to_converse(NOVA, **asked)[0]["additionalModelRequestFields"]
    assert ("top_k",) == to_converse("meta.llama4-scout-17b-instruct-v1:0", **asked)[1]
    wire, dropped = to_converse(seed=1, presence_penalty=1, frequency_penalty=1, user="u", service_tier="flex")
    assert ("frequency_penalty", "presence_penalty", "seed", "user") == dropped
    assert {"type": "flex"} == wire["serviceTier"]
    with pytest.raises(Unsupported, match="n cannot be sent"):
        to_converse(n=2)


def test_2_34_a_schema_is_native_where_the_model_has_it_and_refused_where_not() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    wire, _ = to_converse(response_format=format)

    told = wire["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert ("answer", {**schema, "additionalProperties": False}) == (told["name"], json.loads(told["schema"]))
    asked, dropped = to_converse(response_format={"type": "json_object"})
    assert ((), True) == (dropped, "one valid JSON object" in str(asked["system"]))
    with pytest.raises(Unsupported, match="has no structured outputs"):
        to_converse("anthropic.claude-3-haiku-20240307-v1:0", response_format=format)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (CLAUDE, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (NOVA, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "low"}),
        ("qwen.qwen3-32b-v1:0", {"reasoning_config": "low"}),
    ],
)
def test_2_35_an_effort_is_asked_in_the_makers_own_words(model: str, more: Any) -> None:
    assert more == to_converse(model, reasoning_effort="low")[0]["additionalModelRequestFields"]


def test_2_36_thinking_leaves_the_other_fields_of_the_maker_alone() -> None:
    asked = {"tools": [WEATHER], "parallel_tool_calls": False, "reasoning_effort": "low"}
    wire, _ = to_converse(CLAUDE, **asked)

    assert {"output_config", "thinking", "tool_choice"} == set(wire["additionalModelRequestFields"])


def test_2_37_thinking_goes_back_first_in_its_turn_and_unmodified() -> None:
    content = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "tool_use", "id": "x", "name": "f", "input": {}},
    ]
    messages = [HI, {"role": "assistant", "content": content}]
    wire, _ = to_converse(dialect=MESSAGES, messages=messages, tools=[{"name": "f", "input_schema": {}}])

    told = wire["messages"][1]["content"]
    assert {"reasoningContent": {"reasoningText": {"text": "t", "signature": "s"}}} == told[0]
    assert ["text", "toolUse"] == [next(iter(block)) for block in told[1:]]


def test_2_38_a_signature_without_words_is_kept_both_ways() -> None:
    block = {"reasoningContent": {"reasoningText": {"text": "", "signature": "s"}}}
    text = {"type": "text", "text": "a"}  # Claude refuses a message that ends in thinking
    thought = {"type": "thinking", "thinking": "", "signature": "s"}
    messages = [HI, {"role": "assistant", "content": [thought, text]}, HI]

    assert [block, {"text": "a"}] == to_converse(dialect=MESSAGES, messages=messages)[0]["messages"][1]["content"]
    assert {"type": "thinking", "thinking": "", "signature": "s"} == anthropic(reply([block]))["content"][0]
    assert "reasoning_content" not in openai(reply([block, {"text": "a"}]))["choices"][0]["message"]


def test_2_39_what_is_redacted_is_a_string_to_anthropic_and_bytes_to_bedrock() -> None:
    data = "EqkECkYIBxgCKkA8"
    wire_data = base64.b64encode(data.encode()).decode()
    thought, text = {"type": "redacted_thinking", "data": data}, {"type": "text", "text": "a"}
    messages = [HI, {"role": "assistant", "content": [thought, text]}, HI]
    wire, _ = to_converse(dialect=MESSAGES, messages=messages)

    assert [{"reasoningContent": {"redactedContent": wire_data}}, {"text": "a"}] == wire["messages"][1]["content"]
    told = anthropic(reply(wire["messages"][1]["content"]))
    assert [thought, text] == told["content"]


# --- 3. replies


def test_3_1_all_texts_are_told() -> None:
    assert "ab" == openai(reply([{"text": "a"}, {"text": "b"}]))["choices"][0]["message"]["content"]


USE = {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {}}}


def test_3_2_calls_alone_have_no_content_and_3_3_keep_their_id_and_empty_arguments() -> None:
    message = openai(reply([USE], "tool_use"))["choices"][0]["message"]

    assert message["content"] is None
    call = message["tool_calls"][0]
    assert ("tooluse_1", "f", "{}") == (call["id"], call["function"]["name"], call["function"]["arguments"])


@pytest.mark.parametrize(
    ("theirs", "chat", "messages"),
    [
        ("end_turn", "stop", "end_turn"),
        ("stop_sequence", "stop", "stop_sequence"),
        ("max_tokens", "length", "max_tokens"),
        ("model_context_window_exceeded", "length", "model_context_window_exceeded"),
        ("guardrail_intervened", "content_filter", "refusal"),
        ("content_filtered", "content_filter", "refusal"),
        ("malformed_model_output", "stop", "end_turn"),
        ("malformed_tool_use", "stop", "end_turn"),
        ("a_new_reason", "length", "max_tokens"),
    ],
)
def test_3_6_each_reason_has_its_own(theirs: str, chat: str, messages: str) -> None:
    assert chat == openai(reply([{"text": "a"}], theirs))["choices"][0]["finish_reason"]
    assert messages == anthropic(reply([{"text": "a"}], theirs))["stop_reason"]


def test_3_6_the_stop_sequence_that_was_met_is_asked_for_and_told() -> None:
    wire, _ = to_converse(stop=["END"])
    raw = reply([{"text": "a"}], "stop_sequence", additionalModelResponseFields={"stop_sequence": "END"})

    assert ["/stop_sequence"] == wire["additionalModelResponseFieldPaths"]
    assert "END" == anthropic(raw)["stop_sequence"]


def test_3_8_a_reply_without_output_is_an_error_of_the_providers() -> None:
    coral = {"Output": {"__type": "com.amazon.coral.service#UnknownOperationException"}, "Version": "1.0"}

    with pytest.raises(UpstreamError, match="UnknownOperationException"):
        CONVERSE.read_reply(json.dumps(coral).encode())
    with pytest.raises(UpstreamError):
        CONVERSE.read_reply(b"{}")


def test_3_11_the_prompt_is_what_was_new_and_what_the_cache_held() -> None:
    usage = {
        "inputTokens": 10,
        "outputTokens": 5,
        "totalTokens": 115,
        "cacheReadInputTokens": 60,
        "cacheWriteInputTokens": 40,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}],
    }
    raw = reply([{"text": "a"}], usage=usage)
    told = openai(raw)["usage"]

    assert (110, 5, 115, 60) == (
        told["prompt_tokens"],
        told["completion_tokens"],
        told["total_tokens"],
        told["prompt_tokens_details"]["cached_tokens"],
    )
    told = anthropic(raw)["usage"]
    assert (10, 60, 40) == (
        told["input_tokens"],
        told["cache_read_input_tokens"],
        told["cache_creation_input_tokens"],
    )
    assert 30 == told["cache_creation"]["ephemeral_1h_input_tokens"]


# --- 4. streams


def test_4_4_an_exception_frame_ends_the_stream_as_an_error() -> None:
    wire = frames(START, delta(0, {"text": "a"})) + exception("throttlingException", b'{"message":"slow down"}')
    *_, last = events_of(wire)

    assert Failed(Fault(429, "rate_limit", "slow down", type="ThrottlingException")) == last
    assert "error" in streamed_to(CHAT, wire)[-1]
    assert "[DONE]" not in streamed_to(CHAT, wire)
    with pytest.raises(EventStreamError):
        parse_converse_stream(wire)


def test_4_18_text_and_reasoning_open_their_block_with_their_first_delta() -> None:
    wire = frames(
        START,
        delta(0, {"reasoningContent": {"text": "t"}}),
        delta(0, {"reasoningContent": {"signature": "s"}}),
        stop(0),
        delta(1, {"text": "a"}),
        stop(1),
        ("messageStop", {"stopReason": "end_turn"}),
        METADATA,
    )
    kinds = [e["type"] for e in streamed_to(MESSAGES, wire)]

    assert [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"],
        *["content_block_start", "content_block_delta", "content_block_stop"],
        *["message_delta", "message_stop"],
    ] == kinds


def test_4_18_parallel_tools_are_blocks_of_their_own() -> None:
    def use(index: int) -> tuple[str, Any]:
        start = {"toolUse": {"toolUseId": f"t{index}", "name": f"f{index}"}}
        return "contentBlockStart", {"contentBlockIndex": index, "start": start}

    wire = frames(
        *(START, delta(0, {"text": "a"}), stop(0)),
        *(use(1), delta(1, {"toolUse": {"input": '{"x"'}}), delta(1, {"toolUse": {"input": ":1}"}}), stop(1)),
        *(use(2), stop(2)),
        *(("messageStop", {"stopReason": "tool_use"}), METADATA),
    )
    chunks = [c for c in streamed_to(CHAT, wire) if c != "[DONE]"]
    calls = [d for c in chunks for choice in c["choices"] for d in choice["delta"].get("tool_calls") or ()]

    assert [(0, "t1"), (1, "t2")] == [(call["index"], call["id"]) for call in calls if call.get("id")]
    arguments = {n: "".join(c["function"].get("arguments") or "" for c in calls if c["index"] == n) for n in (0, 1)}
    assert {0: '{"x":1}', 1: "{}"} == arguments


def test_4_19_usage_comes_after_the_stop_and_reaches_the_caller() -> None:
    wire = frames(START, delta(0, {"text": "a"}), stop(0), ("messageStop", {"stopReason": "end_turn"}), METADATA)

    told = streamed_to(MESSAGES, wire)
    assert ("message_delta", 3, 2) == (
        told[-2]["type"],
        *(told[-2]["usage"][k] for k in ("input_tokens", "output_tokens")),
    )
    chunks = streamed_to(CHAT, wire)
    assert (5, "[DONE]") == (chunks[-2]["usage"]["total_tokens"], chunks[-1])


def test_4_19_a_stream_that_stopped_and_told_no_usage_is_whole() -> None:
    wire = frames(START, delta(0, {"text": "a"}), stop(0), ("messageStop", {"stopReason": "end_turn"}))

    assert isinstance(events_of(wire)[-1], Ended)
    assert fold(CONVERSE.name, events_of(wire)).usage is None


# --- 5. errors


@pytest.mark.parametrize(
    ("name", "status", "chat", "messages"),
    [
        ("ThrottlingException", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("ModelNotReadyException", 429, None, "overloaded_error"),
        ("ServiceUnavailableException", 503, None, "overloaded_error"),
        ("InternalServerException", 500, None, "api_error"),
        ("ModelErrorException", 424, None, "api_error"),
        ("ModelTimeoutException", 408, None, "timeout_error"),
        ("AccessDeniedException", 403, None, "permission_error"),
        ("ResourceNotFoundException", 404, None, "not_found_error"),
        ("ValidationException", 400, None, "invalid_request_error"),
    ],
)
def test_5_2_an_error_is_what_its_header_says(name: str, status: int, chat: str | None, messages: str) -> None:
    headers = (
        ("x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"),
        ("x-amzn-requestid", "r-1"),
        ("retry-after", "7"),
    )
    fault = CONVERSE.read_error(status, headers, b'{"Message":"no"}')

    assert (status, name, "no", 7.0, "r-1") == (
        fault.status,
        fault.type,
        fault.message,
        fault.retry_after,
        fault.request_id,
    )
    told, _, body = MESSAGES.write_error(fault)
    assert (status, messages) == (told, json.loads(body)["error"]["type"])
    told, answered, body = CHAT.write_error(fault)
    assert (status, "7") == (told, dict(answered)["retry-after"])
    assert {"message", "type", "param", "code"} == set(json.loads(body)["error"])


@pytest.mark.parametrize(
    "said",
    [
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
        "Too many input tokens. Max input tokens: 8192",
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length",
        "This model's maximum context is 128000 tokens",
        "Your request exceeds the model's maximum input length",
    ],
)
def test_5_2_a_prompt_that_is_too_long_is_told_as_one(said: str) -> None:
    fault = CONVERSE.read_error(400, (), json.dumps({"message": said}).encode())

    assert "context_length" == fault.kind


def test_5_2_a_name_that_is_too_long_is_no_long_prompt() -> None:
    fault = CONVERSE.read_error(400, (), b'{"message":"toolSpec.name exceeds the maximum length of 64"}')

    assert "invalid_request" == fault.kind


def test_5_2_when_to_come_back_is_a_number_or_a_date() -> None:
    date = ("date", "Tue, 24 Nov 2026 10:00:00 GMT")

    assert 9.0 == CONVERSE.read_error(429, (("retry-after", "Tue, 24 Nov 2026 10:00:09 GMT"), date), b"{}").retry_after
    assert 0.25 == CONVERSE.read_error(429, (("retry-after-ms", "250"),), b"{}").retry_after
    assert CONVERSE.read_error(429, (("retry-after", "soon"),), b"{}").retry_after is None


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("internalServerException", 500),
        ("modelStreamErrorException", 424),
        ("throttlingException", 429),
        ("serviceUnavailableException", 503),
        ("validationException", 400),
    ],
)
def test_5_7_each_exception_frame_has_its_modelled_status(kind: str, status: int) -> None:
    (failed,) = events_of(exception(kind, b'{"message":"no"}'))

    assert isinstance(failed, Failed)
    assert status == failed.fault.status


def test_5_7_the_host_of_a_model_is_heard_through_its_messenger() -> None:
    told = b'{"message":"stream error","originalStatusCode":503,"originalMessage":"busy"}'
    (failed,) = events_of(exception("modelStreamErrorException", told))

    assert isinstance(failed, Failed)
    assert (503, "overloaded", "busy") == (failed.fault.status, failed.fault.kind, failed.fault.message)


def test_5_10_an_error_shows_neither_account_nor_key() -> None:
    text = "User: arn:aws:sts::123456789012:assumed-role/x is not authorized, key AKIAIOSFODNN7EXAMPLE"
    fault = CONVERSE.read_error(403, (), json.dumps({"message": text}).encode())

    assert "123456789012" not in fault.message
    assert "AKIA" not in fault.message
    assert "assumed-role" not in fault.message
    cut = "x" * 1_995 + " 123456789012 has no quota"
    assert "1234" not in CONVERSE.read_error(400, (), json.dumps({"message": cut}).encode()).message


# --- 6. prompt caching


def test_6_1_a_cache_point_stands_behind_what_was_marked() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    result = {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "r", **mark}]}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a", **mark}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "f", "input": {}, **mark}]},
        {"role": "user", "content": [result]},
    ]
    wire, _ = to_converse(dialect=MESSAGES, messages=messages, tools=[{"name": "f", "input_schema": {}}])

    point = {"cachePoint": {"type": "default"}}
    assert [{"text": "a"}, point, {"text": "b"}] == wire["messages"][0]["content"]
    assert point == wire["messages"][1]["content"][1]
    assert ["toolResult", "cachePoint"] == [next(iter(block)) for block in wire["messages"][2]["content"]]


# --- the table


def test_every_field_of_a_chat_has_its_fate() -> None:
    assert {field.name for field in fields(Chat) if field.compare} == set(FIELDS)


@pytest.mark.parametrize(
    ("model", "places"),
    [
        (CLAUDE, {"system", "messages", "tools"}),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", set()),  # only accounts of a preview have it
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", set()),
        ("anthropic.claude-3-haiku-20240307-v1:0", set()),
        (NOVA, {"system", "messages"}),
        ("meta.llama3-3-70b-instruct-v1:0", set()),
        ("openai.gpt-oss-120b-1:0", set()),
        ("qwen.qwen3-coder-30b-a3b-v1:0", set()),
        ("deepseek.v3-v1:0", set()),
    ],
)
def test_6_1_a_cache_mark_goes_only_where_the_family_caches(model: str, places: set[str]) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    marked = {"type": "text", "text": "a", **mark}
    wire, dropped = to_converse(
        model,
        MESSAGES,
        system=[marked],
        messages=[{"role": "user", "content": [marked]}],
        tools=[{"name": "f", "input_schema": {}, **mark}],
    )
    sent = {"system": wire["system"], "messages": wire["messages"], "tools": wire["toolConfig"]}

    assert places == {place for place, value in sent.items() if "cachePoint" in json.dumps(value)}
    assert 3 - len(places) == len(dropped)


@pytest.mark.parametrize(
    ("model", "signed", "unsigned"),
    [
        (CLAUDE, True, False),
        ("meta.llama3-3-70b-instruct-v1:0", False, False),
        ("openai.gpt-oss-120b-1:0", False, False),
        ("deepseek.r1-v1:0", False, False),
    ],
)
def test_2_38_thinking_goes_to_the_family_that_takes_it(model: str, signed: bool, unsigned: bool) -> None:
    for signature, taken in (("s", signed), ("edge-carried:unsigned", unsigned)):
        thought = {"type": "thinking", "thinking": "t", "signature": signature}
        said = {"role": "assistant", "content": [thought, {"type": "text", "text": "a"}]}
        wire, dropped = to_converse(model, MESSAGES, messages=[HI, said, HI])

        assert taken == ("reasoningContent" in json.dumps(wire)) == (dropped == ())
