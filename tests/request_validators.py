"""What each provider is known to refuse in a request, as its documentation and its users' reports have it.

Each validator takes the body that a provider would get and gives the reasons for which it would answer 400 or 404. They
are written from the outside: nothing here comes from the writers of edge_extproc.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

CLAUDES = re.compile(r"[A-Za-z0-9+/=]*")
"""A signature of Claude's is base64; what these tests take for one begins with CLAUDE_SIGNED."""
CLAUDE_SIGNED = "RUNsYXVkZQ"
GOOGLE_SIGNED = "R29vZ2xl"
# A signature that Google made once. langchain for JavaScript (1.x) sends it with each call that has none.
LANGCHAIN_SIGNED = "ErYCCrMCAdHtim9k"
# Google's page on thought signatures: what may stand for the signature of a call that another model made.
SKIPS_VALIDATION = {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}


def anthropic(body: dict[str, Any]) -> list[str]:
    """A Claude at Anthropic, at Vertex AI or behind Bedrock's InvokeModel."""
    wrong: list[str] = []
    waiting: set[str] = set()
    turns = body["messages"]
    if not turns or turns[0]["role"] != "user":
        wrong.append("messages: first message must use the user role")
    for i, turn in enumerate(turns):
        blocks = turn["content"] if isinstance(turn["content"], list) else [{"type": "text", "text": turn["content"]}]
        if not blocks:
            wrong.append(f"messages.{i}: all messages must have non-empty content")
        kinds = [block["type"] for block in blocks]
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if turn["role"] == "user":
            if waiting - results:
                wrong.append(
                    f"messages.{i}: `tool_use` ids were found without `tool_result` blocks: {waiting - results}"
                )
            if results - waiting:
                wrong.append(
                    f"messages.{i}: unexpected `tool_use_id` found in `tool_result` blocks: {results - waiting}"
                )
            if "tool_result" in kinds[kinds.count("tool_result") :]:
                wrong.append(f"messages.{i}: tool_result blocks must come first")
            waiting = set()
        for j, block in enumerate(blocks):
            path = f"messages.{i}.content.{j}"
            match block:
                case {"type": "thinking", **more}:
                    signature = more.get("signature")
                    if not isinstance(signature, str) or not signature.startswith(CLAUDE_SIGNED):
                        wrong.append(f"{path}: Invalid `signature` in `thinking` block")
                case {"type": "redacted_thinking", "data": data}:
                    if not data.startswith(CLAUDE_SIGNED):
                        wrong.append(f"{path}: Invalid `data` in `redacted_thinking` block")
                case {"type": "tool_use", "id": id}:
                    if not re.fullmatch(r"[a-zA-Z0-9_-]+", id):
                        wrong.append(f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                    waiting.add(id)
                case {"type": "tool_result", "tool_use_id": id}:
                    if not re.fullmatch(r"[a-zA-Z0-9_-]+", id):
                        wrong.append(f"{path}.tool_result.tool_use_id: String should match pattern")
                case {"type": "image"} if turn["role"] == "assistant":
                    wrong.append(f"{path}: image blocks are not permitted in assistant turns")
                case {"type": "text", "text": text}:
                    if not text.strip():
                        wrong.append(f"{path}: text content blocks must contain non-whitespace text")
                case _:
                    pass
    if (body.get("thinking") or {}).get("type") == "enabled" and _turn_begins_without_thinking(turns):
        wrong.append("When `thinking` is enabled, a final `assistant` message must start with a thinking block")
    wrong += tool_names([tool["name"] for tool in body.get("tools") or ()])
    user = (body.get("metadata") or {}).get("user_id")
    if user is not None and len(user) > 256:
        wrong.append("metadata.user_id: String should have at most 256 characters")
    return wrong


def _turn_begins_without_thinking(turns: list[Any]) -> bool:
    kinds: list[str] = []
    for turn in reversed(turns):
        content = turn["content"] if isinstance(turn["content"], list) else [{"type": "text"}]
        kinds_of_turn = [block["type"] for block in content]
        if turn["role"] == "user" and "tool_result" not in kinds_of_turn:
            break
        if turn["role"] == "assistant":
            kinds = kinds_of_turn + kinds
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


def openai_chat(body: dict[str, Any]) -> list[str]:
    wrong: list[str] = []
    waiting: set[str] = set()
    allowed = {"role", "content", "name", "refusal", "tool_calls", "tool_call_id", "function_call", "audio"}
    for i, message in enumerate(body["messages"]):
        wrong += [f"messages.{i}: unexpected property {key}" for key in sorted(message.keys() - allowed)]
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                wrong.append(f"messages.{i}: messages with role 'tool' must be a response to a preceding tool_calls")
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            wrong.append(f"messages.{i}: tool_call_ids did not have response messages: {sorted(waiting)}")
            waiting = set()
        for j, call in enumerate(message.get("tool_calls") or ()):
            if len(call["id"]) > 40:
                wrong.append(f"messages.{i}.tool_calls.{j}.id: string too long, maximum 40")
            if call.keys() != {"id", "type", call["type"]}:
                wrong.append(f"messages.{i}.tool_calls.{j}: unexpected property")
            waiting.add(call["id"])
    if waiting:
        wrong.append(f"tool_call_ids did not have response messages: {sorted(waiting)}")
    return wrong + tool_names([tool[tool["type"]]["name"] for tool in body.get("tools") or ()]) + _account(body)


def thinking_chat(body: dict[str, Any]) -> list[str]:
    """Moonshot (anomalyco/opencode#16318) and DeepSeek (its guide on thinking mode; an empty one does not do:
    NousResearch/hermes-agent#18263)."""
    wrong: list[str] = []
    waiting: set[str] = set()
    for i, message in enumerate(body["messages"]):
        if message["role"] == "developer":
            wrong.append(f"messages.{i}: unsupported role")
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                wrong.append(f"messages.{i}: tool_call_id is not found")
            waiting.discard(message["tool_call_id"])
        elif waiting:
            wrong.append(f"messages.{i}: an assistant message with 'tool_calls' must be followed by tool messages")
            waiting = set()
        if message.get("tool_calls"):
            waiting |= {call["id"] for call in message["tool_calls"]}
            if not message.get("reasoning_content"):
                wrong.append(f"thinking is enabled but reasoning_content is missing at index {i}")
    if waiting:
        wrong.append(f"tool calls without results: {sorted(waiting)}")
    wrong += [f"tools: unknown type {tool['type']}" for tool in body.get("tools") or () if tool["type"] != "function"]
    return wrong + tool_names([tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool])


# OpenAI: `Invalid 'input[2].id': 'call_1'. Expected an ID that begins with 'fc'.` The prefixes are those of its items.
_ITEM_IDS = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "local_shell_call": "lsh_",
    "shell_call": "sh_",
    "apply_patch_call": "apc_",
    "tool_search_call": "tsc_",
}
# Of each call: the type of its output, and what its item must hold (openai.types.responses.ResponseInputItem).
_CALLS = {
    "function_call": ("function_call_output", {"call_id": str, "name": str, "arguments": str}),
    "custom_tool_call": ("custom_tool_call_output", {"call_id": str, "name": str, "input": str}),
    "local_shell_call": ("local_shell_call_output", {"id": str, "call_id": str, "action": dict, "status": str}),
    "shell_call": ("shell_call_output", {"call_id": str, "action": dict}),
    "apply_patch_call": ("apply_patch_call_output", {"call_id": str, "operation": dict, "status": str}),
    "tool_search_call": ("tool_search_output", {"call_id": str, "arguments": dict}),
}
_OUTPUTS = {output: call for call, (output, _) in _CALLS.items()}


def openai_responses(body: dict[str, Any]) -> list[str]:
    """With `store: false`, or a key of another organisation, no item lies with OpenAI."""
    wrong: list[str] = []
    waiting: dict[str, str] = {}
    items = body["input"] if isinstance(body["input"], list) else []
    for i, item in enumerate(items):
        kind, id = item.get("type", "message"), item.get("id")
        if kind == "reasoning" and not str(item.get("encrypted_content") or "").startswith("OPENAI"):
            wrong.append(f"input.{i}: Item with id {id!r} not found")
        if kind in _CALLS:
            fields = _CALLS[kind][1]
            wrong += [f"input.{i}.{name}: missing" for name, of in fields.items() if not isinstance(item.get(name), of)]
            if len(item.get("call_id", "")) > 64:
                wrong.append(f"input.{i}.call_id: string too long, maximum 64")
            waiting[item.get("call_id", "")] = kind
        if kind in _OUTPUTS:
            call_id = item.get("call_id") or id
            if waiting.pop(call_id, None) != _OUTPUTS[kind]:
                wrong.append(f"input.{i}: No {_OUTPUTS[kind]} found for {kind} with call_id {call_id}")
        if id is not None and kind not in _OUTPUTS:
            if len(id) > 64:
                wrong.append(f"input.{i}.id: string too long, maximum 64")
            if not id.startswith(_ITEM_IDS.get(kind, "")):
                wrong.append(f"input.{i}.id: Expected an ID that begins with {_ITEM_IDS[kind]!r}")
    if waiting:
        wrong.append(f"No tool output found for {sorted(waiting)}")
    names = [tool["name"] for tool in body.get("tools") or () if tool["type"] in ("function", "custom")]
    return wrong + tool_names(names) + _account(body)


def tool_names(names: list[str]) -> list[str]:
    """What all providers refuse: longer names, other characters, the same name twice."""
    wrong = [
        f"tools: {name!r} does not match" for name in names if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", name)
    ]
    return wrong + (["tools: names must be unique"] if len(set(names)) < len(names) else [])


def _account(body: dict[str, Any]) -> list[str]:
    return [
        f"{key}: string too long, maximum 64" for key in ("user", "safety_identifier") if len(body.get(key) or "") > 64
    ]


def gemini_3(body: dict[str, Any]) -> list[str]:
    wrong: list[str] = []
    names: list[str] = []
    for i, turn in enumerate(body["contents"]):
        calls = 0
        for j, part in enumerate(turn["parts"]):
            path = f"contents[{i}].parts[{j}]"
            signature = part.get("thoughtSignature")
            if signature is not None and not _is_googles(signature):
                wrong.append(f"{path}: Corrupted thought signature")
            if "functionCall" in part:
                if calls == 0 and signature is None:
                    wrong.append(f"{path}: Function call is missing a thought_signature")
                calls += 1
                names.append(part["functionCall"]["name"])
            if "functionResponse" in part:
                if part["functionResponse"]["name"] not in names:
                    wrong.append(f"{path}: function response without its function call")
                else:
                    names.remove(part["functionResponse"]["name"])
    if names:
        wrong.append("the number of function response parts must equal that of the function call parts")
    declared = [each for tool in body.get("tools") or () for each in tool["functionDeclarations"]]
    return wrong + tool_names([each["name"] for each in declared])


def _is_googles(signature: str) -> bool:
    if signature in SKIPS_VALIDATION or signature.startswith((GOOGLE_SIGNED, LANGCHAIN_SIGNED)):
        return True
    try:
        return base64.b64decode(signature, validate=True).decode() in SKIPS_VALIDATION
    except ValueError:
        return False


def bedrock_claude(body: dict[str, Any]) -> list[str]:
    """Converse for a Claude: the service model's patterns, and what Claude itself checks."""
    wrong: list[str] = []
    waiting: set[str] = set()
    before = ""
    for i, turn in enumerate(body["messages"]):
        if turn["role"] == before:
            wrong.append(f"messages.{i}: roles must alternate")
        before = turn["role"]
        results = {block["toolResult"]["toolUseId"] for block in turn["content"] if "toolResult" in block}
        if turn["role"] == "user":
            if waiting != results:
                wrong.append(f"messages.{i}: toolResult blocks do not match the toolUse blocks of the previous turn")
            waiting = set()
        for j, block in enumerate(turn["content"]):
            path = f"messages.{i}.content.{j}"
            match block:
                case {"toolUse": {"toolUseId": id}} | {"toolResult": {"toolUseId": id}}:
                    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", id):
                        wrong.append(f"{path}: toolUseId failed to satisfy constraint: [a-zA-Z0-9_-]{{1,64}}")
                    if "toolUse" in block:
                        waiting.add(id)
                case {"reasoningContent": {"reasoningText": {**text}}}:
                    if not str(text.get("signature") or "").startswith(CLAUDE_SIGNED):
                        wrong.append(f"{path}: Invalid `signature` in `thinking` block")
                case _:
                    pass
    tools = (body.get("toolConfig") or {}).get("tools") or ()
    return wrong + tool_names([tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool])


def of(provider: str, dialect: str, body: bytes) -> list[str]:
    if provider in ("kimi", "deepseek"):
        return thinking_chat(json.loads(body))
    validators = {
        "anthropic_messages": anthropic,
        "openai_chat": openai_chat,
        "openai_responses": openai_responses,
        "gemini_generate": gemini_3,
        "bedrock_converse": bedrock_claude,
    }
    return validators[dialect](json.loads(body))
