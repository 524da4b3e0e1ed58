"""What is written into a reply is legal history at every provider: for each caller's format, each provider that answers
the first turn and each that answers the second, the second request passes what that provider is known to refuse."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
import request_validators
from asking import CALLERS, DIALECTS, MESSAGES, PROVIDERS, Json, Provider, provider_request
from callers_paths import leads_somewhere
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from request_validators import CLAUDE_SIGNED, GOOGLE_SIGNED, OPENAI_SEALED
from thoroughness import examples

from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Call
from edge_extproc.model.reply import fold, unfold

# Hosts that only answer here: of their requests no refusal is modelled.
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
ANSWERING = {**PROVIDERS, "kimi at anthropic's": Provider(MESSAGES, "kimi-k2.6")}


@dataclass(frozen=True)
class Turn:
    """What a model says, whoever it is."""

    thinking: str
    text: str
    calls: tuple[str, ...]
    """An odd sign in the id of each call, where the host makes ids of its own kind."""
    picture: bool = False
    """Where the model makes some."""
    refusal: bool = False
    """Where the format has them."""
    arguments: str = '{"city": "Rome"}'
    """Of its calls, where the format has a text."""


NO, PNG = "I cannot do that.", "aGk="
TURNS = st.builds(
    Turn,
    st.sampled_from(["", "let me think"]),
    st.sampled_from(["", "I look it up."]),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True).map(tuple),
    st.booleans(),
    st.booleans(),
    st.sampled_from(['{"city": "Rome"}', '{"city": "Ro', "[]", '["Rome"]', '"Rome"', "", "null", "Rome"]),
)


def native(name: str, turn: Turn, number: int = 0) -> Json:
    """The reply as the provider itself gives it, the `number`th of its conversation."""
    provider = ANSWERING[name]
    seal = CLAUDE_SIGNED + "s" * 40
    args = {"city": "Rome"}
    match provider.dialect:
        case "anthropic_messages":
            signature = seal if "claude" in provider.model else ""
            prefix = "toolu_" if "claude" in provider.model else "functions.weather:"
            content: list[Json] = []
            if turn.thinking:
                content.append({"type": "thinking", "thinking": turn.thinking, "signature": signature})
            if turn.text:
                content.append({"type": "text", "text": turn.text})
            content += [
                {"type": "tool_use", "id": f"{prefix}{c}{number}", "name": "weather", "input": args} for c in turn.calls
            ]
            return {
                "id": f"msg_{number}1",
                "type": "message",
                "role": "assistant",
                "model": provider.model,
                "content": content,
                "stop_reason": "tool_use" if turn.calls else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        case "bedrock_converse":
            blocks: list[Json] = []
            if turn.thinking:
                blocks.append({"reasoningContent": {"reasoningText": {"text": turn.thinking, "signature": seal}}})
            if turn.text:
                blocks.append({"text": turn.text})
            blocks += [
                {"toolUse": {"toolUseId": f"tooluse_{c}{number}", "name": "weather", "input": args}} for c in turn.calls
            ]
            stop = "tool_use" if turn.calls else "end_turn"
            return {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": stop, "usage": {}}
        case "openai_responses":
            output: list[Json] = []
            if turn.thinking:
                summary = [{"type": "summary_text", "text": turn.thinking}]
                output.append(
                    {
                        "type": "reasoning",
                        "id": f"rs_{number}" + "0" * 48,
                        "summary": summary,
                        "encrypted_content": OPENAI_SEALED,
                    }
                )
            if turn.text:
                said = [{"type": "output_text", "text": turn.text, "annotations": []}]
                output.append(
                    {
                        "type": "message",
                        "id": f"msg_{number}1",
                        "role": "assistant",
                        "status": "completed",
                        "content": said,
                    }
                )
            if turn.refusal:
                refused = [{"type": "refusal", "refusal": NO}]
                output.append(
                    {
                        "type": "message",
                        "id": f"msg_{number}2",
                        "role": "assistant",
                        "status": "completed",
                        "content": refused,
                    }
                )
            if turn.picture:
                output.append(
                    {
                        "type": "image_generation_call",
                        "id": f"ig_{number}" + "0" * 48,
                        "status": "completed",
                        "output_format": "png",
                        "result": PNG,
                    }
                )
            output += [
                {
                    "type": "function_call",
                    "id": f"fc_{c}{number}",
                    "call_id": f"call_{c}{number}",
                    "name": "weather",
                    "arguments": turn.arguments,
                }
                for c in turn.calls
            ]
            return {"id": f"resp_{number}", "object": "response", "status": "completed", "model": "m", "output": output}
        case "openai_chat":
            message: Json = {"role": "assistant", "content": turn.text or None}
            is_kimi = "kimi" in provider.model
            if turn.refusal and "gpt" in provider.model:
                message["refusal"] = NO
            if turn.thinking and "gpt" not in provider.model:
                message["reasoning_content"] = turn.thinking
            if turn.calls:
                # Kimi's ids; vLLM's are longer than OpenAI takes
                made = {"a": f"functions.weather:{number}", "b": f"chatcmpl-tool-{number:032}", "c": f"call_c{number}"}
                function = {"name": "weather", "arguments": turn.arguments}
                ids = [made[c] if is_kimi else f"call_{c}{number}" for c in turn.calls]
                message["tool_calls"] = [{"id": id, "type": "function", "function": function} for id in ids]
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if turn.calls else "stop"}
            return {"id": f"c-{number}", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        case _:
            parts: list[Json] = []
            if turn.thinking:
                parts.append({"text": turn.thinking, "thought": True})
            if turn.text:
                parts.append({"text": turn.text})
            if turn.picture:
                parts.append({"inlineData": {"mimeType": "image/png", "data": PNG}})
            for at, _ in enumerate(turn.calls):
                call: Json = {"functionCall": {"name": "weather", "args": args}}
                if at == 0:
                    call["thoughtSignature"] = base64.b64encode(base64.b64decode(GOOGLE_SIGNED) + b"more").decode()
                parts.append(call)
            candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
            return {"candidates": [candidate], "modelVersion": "gemini", "responseId": f"r{number}"}


def told(caller: str, name: str, turn: Turn, number: int = 0, *, stream: bool) -> Json:
    """The same reply as the caller gets it."""
    answer = native(name, turn, number)
    source = ANSWERING[name].dialect
    if source == caller:
        return answer
    reply = DIALECTS[source].read_reply(json.dumps(answer).encode())
    reply = replace(reply, id=reply.id or f"request-{number}")  # Bedrock has it in a header
    target = DIALECTS[caller]
    if not stream:
        found: Json = json.loads(target.write_reply(reply))
        return found
    writer = target.writer(Call(caller, "chat", "m", True, b"{}"))
    wire = b"".join(writer.write(event) for event in unfold(reply))
    reader = target.reader(target.stream_type)
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    events += reader.close()[1]
    again: Json = json.loads(target.write_reply(fold(caller, events)))
    return again


ASK = "What is the weather?"


def conversation(caller: str, replies: list[Json], *, thinks: bool, seen: bool = False) -> tuple[Json, str]:
    """The next request: the replies as the caller's SDK hands them back, each call with its result. `seen`: with a
    picture in the result, where the format has a place for it."""
    shown: Any
    match caller:
        case "anthropic_messages":
            messages: list[Json] = [{"role": "user", "content": ASK}]
            for reply in replies:
                messages.append({"role": "assistant", "content": reply["content"]})
                calls = [block for block in reply["content"] if block["type"] == "tool_use"]
                source = {"type": "base64", "media_type": "image/png", "data": PNG}
                shown = [{"type": "text", "text": "sun"}, {"type": "image", "source": source}] if seen else "sun"
                results = [{"type": "tool_result", "tool_use_id": call["id"], "content": shown} for call in calls]
                messages.append({"role": "user", "content": results or "And then?"})
            body: Json = {"model": "m", "max_tokens": 4000, "messages": messages}
            body["tools"] = [{"name": "weather", "input_schema": CITY}]
            if thinks:
                body["thinking"] = {"type": "enabled", "budget_tokens": 2000}
            return body, "/v1/messages"
        case "bedrock_converse":
            turns: list[Json] = [{"role": "user", "content": [{"text": ASK}]}]
            for reply in replies:
                content = reply["output"]["message"]["content"]
                turns.append({"role": "assistant", "content": content})
                ids = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
                picture = {"image": {"format": "png", "source": {"bytes": PNG}}}
                shown = [{"text": "sun"}, picture] if seen else [{"text": "sun"}]
                answers = [{"toolResult": {"toolUseId": id, "content": shown}} for id in ids]
                turns.append({"role": "user", "content": answers or [{"text": "And then?"}]})
            tools = [{"toolSpec": {"name": "weather", "inputSchema": {"json": CITY}}}]
            return {"messages": turns, "toolConfig": {"tools": tools}}, "/model/m/converse"
        case "openai_responses":
            items: list[Json] = [{"role": "user", "content": ASK}]
            for reply in replies:
                items += reply["output"]
                called = [item["call_id"] for item in reply["output"] if item["type"] == "function_call"]
                image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
                shown = [{"type": "input_text", "text": "sun"}, image] if seen else "sun"
                items += [{"type": "function_call_output", "call_id": id, "output": shown} for id in called]
                if not called:
                    items.append({"role": "user", "content": "And then?"})
            function = {"type": "function", "name": "weather", "parameters": CITY}
            return {"model": "m", "store": False, "input": items, "tools": [function]}, "/v1/responses"
        case "openai_chat":
            history: list[Json] = [{"role": "user", "content": ASK}]
            for reply in replies:
                message = {key: value for key, value in reply["choices"][0]["message"].items() if value is not None}
                history.append({"content": None, **message})
                asked = [call["id"] for call in message.get("tool_calls") or ()]
                history += [{"role": "tool", "tool_call_id": id, "content": "sun"} for id in asked]
                if not asked:
                    history.append({"role": "user", "content": "And then?"})
            offered = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
            body = {"model": "m", "messages": history, "tools": [offered]}
            return ({**body, "reasoning_effort": "medium"} if thinks else body), "/v1/chat/completions"
        case _:
            contents: list[Json] = [{"role": "user", "parts": [{"text": ASK}]}]
            for reply in replies:
                content = reply["candidates"][0]["content"]
                contents.append(content)
                responses = []
                for part in content.get("parts", ()):
                    if "functionCall" in part:
                        given = {"id": part["functionCall"]["id"]} if "id" in part["functionCall"] else {}
                        responses.append(
                            {"functionResponse": {"name": "weather", "response": {"output": "sun"}, **given}}
                        )
                contents.append({"role": "user", "parts": responses or [{"text": "And then?"}]})
            declared = [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": CITY}]}]
            return {"contents": contents, "tools": declared}, "/v1beta/models/m:generateContent"


TRIPLES = list(itertools.product(CALLERS, ANSWERING, PROVIDERS))


@pytest.mark.parametrize(("caller", "first", "second"), TRIPLES)
@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=st.lists(TURNS, min_size=1, max_size=3), stream=st.booleans(), thinks=st.booleans(), seen=st.booleans())
def test_what_one_provider_said_the_next_one_takes(
    caller: str, first: str, second: str, turns: list[Turn], stream: bool, thinks: bool, seen: bool
) -> None:
    replies = [
        told(caller, name, turn, number, stream=stream)
        for number, (name, turn) in enumerate(zip((first, second, first), turns, strict=False))
    ]
    body, path = conversation(caller, replies, thinks=thinks, seen=seen)

    sent, dropped = provider_request(caller, body, path, PROVIDERS[second])

    assert [] == [name for name in dropped if not leads_somewhere(name, body)]
    assert [] == request_validators.of(second, PROVIDERS[second].dialect, sent)


def _called(*ids: str, **more: Any) -> Json:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls, **more}


USER = {"role": "user", "content": "a"}
RESULT = {"role": "tool", "tool_call_id": "call_0", "content": "b"}
THOUGHT = {"type": "thinking", "thinking": "a", "signature": ""}
USE = {"type": "tool_use", "id": "functions.a:0", "name": "a", "input": {}}
TURN = {"role": "user", "parts": [{"text": "a"}]}
CALLED = {"role": "model", "parts": [{"functionCall": {"name": "a"}}]}
# A validator, a body, and a word of each refusal.
REFUSED: list[tuple[Any, Json, tuple[str, ...]]] = [
    (
        request_validators.anthropic,
        {"messages": [USER, {"role": "assistant", "content": [THOUGHT, USE]}]},
        ("signature", "pattern", "without `tool_result`", "must define tools"),
    ),
    (request_validators.anthropic, {"messages": [USER, {"role": "assistant", "content": [THOUGHT]}]}, ("final block",)),
    (request_validators.anthropic, {"messages": [USER, {"role": "assistant", "content": " "}]}, ("non-whitespace",)),
    (
        request_validators.anthropic,
        {"messages": [USER, {"role": "assistant", "content": [{**USE, "id": "a"}, {**USE, "id": "a"}]}]},
        ("unique",),
    ),
    (
        request_validators.anthropic,
        {"messages": [USER, {"role": "assistant", "content": [{"type": "image"}]}]},
        ("image",),
    ),
    (
        request_validators.openai_responses,
        {"input": [{"type": "reasoning", "id": "rs_1"}, {"type": "function_call", "call_id": "c" * 65}]},
        ("not found", "name: missing", "arguments: missing", "too long", "No tool output"),
    ),
    (request_validators.gemini_3, {"contents": [CALLED]}, ("after a user turn", "thought_signature", "must equal")),
    (request_validators.gemini_2_5, {"contents": [TURN, {"role": "model", "parts": [{}]}]}, ("oneof field",)),
    (
        request_validators.bedrock_claude,
        {"messages": [{"role": "user", "content": [{"toolUse": {"toolUseId": "a.b", "name": "a", "input": {}}}]}]},
        ("constraint", "without toolResult", "toolConfig"),
    ),
    (request_validators.openai_chat, {"messages": [], "user": "u" * 65}, ("length",)),
    (
        request_validators.openai_chat,
        {"messages": [_called("a", reasoning="b")]},
        ("unexpected property", "did not have"),
    ),
    (request_validators.thinking_chat, {"messages": [_called("call_0"), RESULT]}, ("reasoning_content is missing",)),
    (
        request_validators.mistral,
        {"messages": [_called("call_0"), RESULT, USER]},
        ("length of 9", "after role 'tool'"),
    ),
    (
        request_validators.strict_chat,
        {"messages": [{"role": "assistant", "content": "a", "refusal": None}]},
        ("refusal",),
    ),
    (request_validators.zhipu, {"messages": [USER], "user": "u1"}, ("length",)),
]


@pytest.mark.parametrize(("validator", "body", "words"), REFUSED)
def test_a_validator_refuses_what_its_provider_refuses(validator: Any, body: Json, words: tuple[str, ...]) -> None:
    """The same checks would pass anything that they do not look at."""
    wrong = validator(body)

    assert [] == [word for word in words if not any(word in each for each in wrong)]


def test_no_triple_is_refused_by_the_gateway_itself() -> None:
    """A refusal would pass the validators too."""
    turn = Turn("let me think", "I look it up.", ("a", "b"), picture=True, refusal=True)
    for caller, first, second in TRIPLES:
        body, path = conversation(caller, [told(caller, first, turn, stream=False)], thinks=False, seen=True)
        try:
            provider_request(caller, body, path, PROVIDERS[second])
        except BadRequest as error:
            pytest.fail(f"{caller}, {first}, {second}: {error.message}")


def test_what_the_raw_lane_drops_of_a_history_has_a_path_in_the_callers_body() -> None:
    """Each format drops something of what another provider said."""
    turn = Turn("let me think", "I look it up.", ("a", "b"), picture=True, refusal=True)
    named: dict[str, set[str]] = {caller: set() for caller in CALLERS}
    for caller, first, second in TRIPLES:
        if PROVIDERS[second].dialect != caller:
            continue
        body, path = conversation(caller, [told(caller, first, turn, stream=False)], thinks=True, seen=True)
        _, dropped = provider_request(caller, body, path, PROVIDERS[second])
        assert [] == [name for name in dropped if not leads_somewhere(name, body)]
        named[caller] |= set(dropped)

    assert {} == {caller: names for caller, names in named.items() if not names}
