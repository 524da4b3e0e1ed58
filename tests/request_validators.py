"""What each provider is known to refuse in a request, as its documentation and its users' reports have it.

Each validator takes the body that a provider would get and gives the reasons for which it would answer 400, 404 or 422.
They are written from the outside: nothing here comes from the writers of edge_extproc.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CLAUDES = re.compile(r"[A-Za-z0-9+/=]*")
"""A signature of Claude's is base64; what these tests take for one begins with CLAUDE_SIGNED."""
CLAUDE_SIGNED = "RUNsYXVkZQ"
GOOGLE_SIGNED = "R29vZ2xl"
OPENAI_SEALED = "gAAAAA"
"""OpenAI's encrypted reasoning is a Fernet token."""
# A signature that Google made once. langchain for JavaScript (1.x) sends it with each call that has none.
LANGCHAIN_SIGNED = "ErYCCrMCAdHtim9k"
# Google's page on thought signatures: what may stand for the signature of a call that another model made.
SKIPS_VALIDATION = {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}
Json = dict[str, Any]


def claude_signature(text: str) -> str:
    """The signature that the Claude of these tests gives to a text. It is valid for this text alone."""
    return f"{CLAUDE_SIGNED}T{hashlib.sha256(text.encode()).hexdigest()}"


def _is_claudes(signature: Any, text: str) -> bool:
    if not isinstance(signature, str) or not signature.startswith(CLAUDE_SIGNED):
        return False
    return not signature.startswith(f"{CLAUDE_SIGNED}T") or signature == claude_signature(text)


def google_signature(name: str) -> str:
    return base64.b64encode(b"Google" + hashlib.sha256(name.encode()).digest()).decode()


# --- what several of them refuse


def tool_names(names: list[str], most: int = 64) -> list[str]:
    """What all providers refuse: longer names, other characters, the same name twice."""
    legal = re.compile(rf"[a-zA-Z_][a-zA-Z0-9_-]{{0,{most - 1}}}")
    wrong = [f"tools: {name!r} does not match" for name in names if not legal.fullmatch(name)]
    return wrong + (["tools: names must be unique"] if len(set(names)) < len(names) else [])


def _name_of_call(name: Any, path: str, most: int = 64) -> Iterator[str]:
    if not isinstance(name, str) or not re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{most}}}", name):
        yield f"{path}: {name!r} does not match '^[a-zA-Z0-9_-]{{1,{most}}}$'"


def _arguments(text: Any, path: str) -> Iterator[str]:
    """Hosts that template the history decode the arguments of each call (vLLM, SGLang). Empty ones are none."""
    if text == "":
        return
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        yield f"{path}: the arguments are not valid JSON"
        return
    if not isinstance(value, dict):
        yield f"{path}: the arguments are not an object"


def _account(body: Json, least: int = 0, most: int = 64) -> list[str]:
    users = [(key, body[key]) for key in ("user", "safety_identifier") if body.get(key) is not None]
    return [f"{key}: the length must be {least} to {most}" for key, user in users if not least <= len(user) <= most]


def _is_base64(data: Any) -> bool:
    try:
        return isinstance(data, str) and bool(data) and bool(base64.b64decode(data, validate=True))
    except binascii.Error:
        return False


def strict_schema(schema: Any, path: str) -> Iterator[str]:
    """OpenAI's guide on structured outputs: what a schema with `strict` must be."""
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        names = sorted(properties or {})
        if schema.get("additionalProperties") is not False:
            yield f"{path}: 'additionalProperties' is required to be supplied and to be false"
        if sorted(schema.get("required") or ()) != names:
            yield f"{path}: 'required' is required to be supplied and to be an array including every key in properties"
    for key in ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"):
        if key in schema:
            yield f"{path}: {key!r} is not permitted"
    for name, each in (properties or {}).items():
        yield from strict_schema(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        yield from strict_schema(schema.get(key), f"{path}.{key}")
    for key in ("anyOf", "prefixItems"):
        for each in schema.get(key) or ():
            yield from strict_schema(each, f"{path}.{key}")
    for key in ("$defs", "definitions"):
        for name, each in (schema.get(key) or {}).items():
            yield from strict_schema(each, f"{path}.{key}.{name}")


def _function_schema(schema: Any, path: str) -> Iterator[str]:
    if schema is None:
        return
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"{path}: schema must be a JSON Schema of 'type: \"object\"'"
        return
    for key in ("oneOf", "anyOf", "allOf", "enum", "not"):
        if key in schema:
            yield f"{path}: schema must not have {key!r} at the top level"


# --- Anthropic

_CLAUDE_ID = re.compile(r"[a-zA-Z0-9_-]+")
_SERVER_ID = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")
_BUDGET_LEAST = 1_024
_FIRST_BYTES = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif"}
_NO_PREFILL = re.compile(r"claude-(?:opus|sonnet|haiku)-(?:4-[6-9]|[5-9])(?!\d)")
"""smallmain/vscode-unify-chat-provider#249, ericc-ch/copilot-api#261: from Claude Opus 4.6 and Sonnet 4.6 on."""
_CLAUDES_LONGEST_NAME = 128


def anthropic(body: Json, *, server_tools: bool = True) -> list[str]:
    """A Claude at Anthropic, at Vertex AI or behind Bedrock's InvokeModel. `server_tools`: Bedrock has none."""
    wrong: list[str] = []
    waiting: set[str] = set()
    used: set[str]
    turns = _joined(body["messages"])
    if not turns or turns[0][0] != "user":
        wrong.append("messages: first message must use the user role")
    for i, (role, blocks) in enumerate(turns):
        if not blocks:
            wrong.append(f"messages.{i}: all messages must have non-empty content")
        kinds = [block["type"] for block in blocks]
        used = set()  # recorded: an id of an earlier turn is taken
        listed = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        results = set(listed)
        if len(listed) > len(results):
            wrong.append(f"messages.{i}: each tool_use must have a single result")
        if role == "user":
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
        elif kinds and kinds[-1] in ("thinking", "redacted_thinking"):
            wrong.append(f"messages.{i}: The final block in an assistant message cannot be `thinking`")
        for j, block in enumerate(blocks):
            wrong += _claude_block(block, role, f"messages.{i}.content.{j}", server_tools=server_tools)
            if block["type"] == "tool_use":
                if block["id"] in used:
                    wrong.append(f"messages.{i}.content.{j}: `tool_use` ids must be unique")
                used.add(block["id"])
                waiting.add(block["id"])
        if blocks and all(block["type"] == "text" and not block["text"].strip() for block in blocks):
            # Recorded: beside another block, a text of white space is taken.
            wrong.append(f"messages.{i}: text content blocks must contain non-whitespace text")
        wrong += _server_results(blocks, f"messages.{i}")
    if waiting:
        wrong.append(f"messages: `tool_use` ids were found without `tool_result` blocks: {waiting}")
    elif turns and turns[-1][0] == "assistant" and _NO_PREFILL.search(str(body.get("model"))):
        wrong.append("This model does not support assistant message prefill. It must end with a user message.")
    wrong += _claude_settings(body, turns)
    return wrong


def _joined(messages: list[Json]) -> list[tuple[str, list[Json]]]:
    """Messages of one role that follow each other count as one."""
    turns: list[tuple[str, list[Json]]] = []
    for message in messages:
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message["role"], list(blocks)))
    return turns


def _claude_block(block: Json, role: str, path: str, *, server_tools: bool) -> Iterator[str]:
    match block:
        case {"type": "thinking", **more}:
            if not _is_claudes(more.get("signature"), more.get("thinking", "")):
                yield f"{path}: Invalid `signature` in `thinking` block"
        case {"type": "redacted_thinking", "data": data}:
            if not data.startswith(CLAUDE_SIGNED):
                yield f"{path}: Invalid `data` in `redacted_thinking` block"
        case {"type": "tool_use", "id": id, **more}:
            if not _CLAUDE_ID.fullmatch(id):
                yield f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            if "name" in more:
                yield from _name_of_call(more["name"], f"{path}.tool_use.name", _CLAUDES_LONGEST_NAME)
            if not isinstance(more.get("input"), dict):
                yield f"{path}.tool_use.input: Input should be a valid dictionary"
        case {"type": "tool_result", "tool_use_id": id, **more}:
            if not _CLAUDE_ID.fullmatch(id):
                yield f"{path}.tool_result.tool_use_id: String should match pattern"
            inner = more.get("content")
            for part in inner if isinstance(inner, list) else ():
                yield from _claude_block(part, role, f"{path}.content", server_tools=server_tools)
        case {"type": "image" | "document", **more}:
            if role == "assistant":
                yield f"{path}: image blocks are not permitted in assistant turns"
            match more.get("source"):
                case {"type": "base64", "data": data} if not _is_base64(data):
                    yield f"{path}.source: invalid base64 data"
                case {"type": "base64", "media_type": named, "data": data}:
                    # vybestack/llxprt-code#2130
                    for beginning, kind in _FIRST_BYTES.items():
                        if data.startswith(beginning) and named != kind:
                            yield f"{path}: specified using the {named} media type, but appears to be a {kind} image"
        case {"type": "text", "text": ""}:
            yield f"{path}: text content blocks must be non-empty"
        case {"type": "server_tool_use", "id": id}:
            if not server_tools:
                yield f"{path}: Input tag 'server_tool_use' does not match any of the expected tags"
            if not _SERVER_ID.fullmatch(id):
                yield f"{path}.server_tool_use.id: String should match pattern '^srvtoolu_[a-zA-Z0-9_]+$'"
        case {"type": str(kind)} if kind.endswith("_tool_result") and not server_tools:
            yield f"{path}: Input tag {kind!r} does not match any of the expected tags"
        case {"type": str(kind)} if kind not in _CLAUDE_BLOCKS:
            yield f"{path}: Input tag {kind!r} does not match any of the expected tags"


_CLAUDE_BLOCKS = {"image", "document", "text", "thinking", "redacted_thinking", "web_search_tool_result", "tool_use"}


def _server_results(blocks: list[Json], path: str) -> Iterator[str]:
    """A server tool's use and its result stand in the same turn."""
    uses = {block["id"] for block in blocks if block["type"] == "server_tool_use"}
    results = {block["tool_use_id"] for block in blocks if block["type"] == "web_search_tool_result"}
    if uses - results:
        yield f"{path}: `web_search` tool use with id {sorted(uses - results)} was found without a result block"
    if results - uses:
        yield f"{path}: unexpected `tool_use_id` found in `web_search_tool_result` blocks"


def _claude_settings(body: Json, turns: list[tuple[str, list[Json]]]) -> Iterator[str]:
    thinking = (body.get("thinking") or {}).get("type")
    if thinking == "enabled" and _turn_begins_without_thinking(turns):
        yield "When `thinking` is enabled, a final `assistant` message must start with a thinking block"
    (last_role, last) = turns[-1]
    if thinking == "enabled" and last_role == "assistant" and "thinking" not in last[0]["type"]:
        yield "When `thinking` is enabled, a final `assistant` message must start with a thinking block"
    if thinking == "enabled":
        budget = body["thinking"]["budget_tokens"]
        if budget < _BUDGET_LEAST:
            yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if budget >= body["max_tokens"]:
            yield "`max_tokens` must be greater than `thinking.budget_tokens`"
    if thinking in ("enabled", "adaptive"):
        if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
            yield "Thinking may not be enabled when tool_choice forces tool use"
        if body.get("temperature", 1) != 1:
            yield "`temperature` may only be set to 1 when thinking is enabled"
    tools = body.get("tools") or ()
    yield from tool_names([tool["name"] for tool in tools], _CLAUDES_LONGEST_NAME)
    for tool in tools:
        if "input_schema" in tool:
            yield from _function_schema(tool["input_schema"], f"tools.{tool['name']}.input_schema")
    if any(block["type"] == "tool_use" for _, blocks in turns for block in blocks) and "messages" in body and not tools:
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools"
    marks = json.dumps(body).count('"cache_control"')
    if marks > 4:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {marks}"
    user = (body.get("metadata") or {}).get("user_id")
    if user is not None and len(user) > 256:
        yield "metadata.user_id: String should have at most 256 characters"


def _turn_begins_without_thinking(turns: list[tuple[str, list[Json]]]) -> bool:
    kinds: list[str] = []
    for role, blocks in reversed(turns):
        kinds_of_turn = [block["type"] for block in blocks]
        if role == "user" and "tool_result" not in kinds_of_turn:
            break
        if role == "assistant":
            kinds = kinds_of_turn + kinds
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


# --- OpenAI's chat format

_CHAT_FIELDS = {"role", "content", "name", "refusal", "tool_calls", "tool_call_id", "function_call", "audio"}
_GPT_EFFORTS = {"none", "low", "medium", "high", "xhigh"}


def openai_chat(body: Json) -> list[str]:
    wrong = list(_chat_order(body["messages"]))
    for i, message in enumerate(body["messages"]):
        # `annotations` is in OpenAI's own replies, and its SDKs send them back.
        unknown = sorted(message.keys() - _CHAT_FIELDS - {"annotations"})
        wrong += [f"messages.{i}: unexpected property {key}" for key in unknown]
        for j, call in enumerate(message.get("tool_calls") or ()):
            path = f"messages.{i}.tool_calls.{j}"
            if len(call["id"]) > 40:
                wrong.append(f"{path}.id: string too long, maximum 40")
            if call.keys() != {"id", "type", call["type"]}:
                wrong.append(f"{path}: unexpected property")
            elif call["type"] == "function" and "name" in call["function"]:
                wrong += _name_of_call(call["function"]["name"], path)
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if message["role"] == "assistant" and part["type"] not in ("text", "refusal"):
                wrong.append(f"messages.{i}: Invalid value: {part['type']!r}. Supported values are: 'text', 'refusal'")
            if message["role"] in ("tool", "system", "developer") and part["type"] != "text":
                wrong.append(f"messages.{i}: Invalid value: {part['type']!r}. Supported values are: 'text'")
    tools = body.get("tools") or ()
    for tool in tools:
        if tool["type"] == "function":
            wrong += _gpt_function(tool["function"])
    match body.get("response_format"):
        case {"json_schema": {"strict": True, "schema": schema}}:
            wrong += strict_schema(schema, "response_format")
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in _GPT_EFFORTS:
        wrong.append(f"reasoning_effort: unsupported value {effort!r}")
    return wrong + tool_names([tool[tool["type"]]["name"] for tool in tools]) + _account(body)


def _gpt_function(function: Json) -> Iterator[str]:
    yield from _function_schema(function.get("parameters"), f"Invalid schema for function {function['name']!r}")
    if function.get("strict"):
        yield from strict_schema(function.get("parameters"), f"Invalid schema for function {function['name']!r}")


def _chat_order(messages: list[Json], *, null_content: bool = True) -> Iterator[str]:
    """Calls and their results, and content that must be there. `null_content`: of a message with calls."""
    waiting: set[str] = set()
    answered: set[str] = set()
    for i, message in enumerate(messages):
        role, calls = message["role"], message.get("tool_calls")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            yield f"messages.{i}: unknown role {role!r}"
        if role == "tool":
            id = message["tool_call_id"]
            if id in answered and id not in waiting:
                yield f"messages.{i}: Duplicate value for 'tool_call_id' of {id!r}"
            elif id not in waiting:
                yield f"messages.{i}: messages with role 'tool' must be a response to a preceding tool_calls"
            waiting.discard(id)
            answered.add(id)
            continue
        if waiting:
            yield f"messages.{i}: tool_call_ids did not have response messages: {sorted(waiting)}"
            waiting = set()
        if role != "assistant":
            if message.get("content") in (None, []):
                yield f"messages.{i}: Invalid value for 'content': expected a string, got null"
            continue
        if calls == []:
            yield f"messages.{i}: [] is too short - 'tool_calls'"
        ids = [call["id"] for call in calls or ()]
        if len(set(ids)) < len(ids):
            yield f"messages.{i}: Duplicate tool call ids: {ids}"
        waiting = set(ids)
        answered = set()
        has_text = message.get("content") not in (None, "", []) or bool(message.get("refusal"))
        if not has_text and not calls:
            yield f"messages.{i}: an assistant message must not be empty"
        if message.get("content") is None and calls and not null_content:
            yield f"messages.{i}: content must be a string"
    if waiting:
        yield f"tool_call_ids did not have response messages: {sorted(waiting)}"


def thinking_chat(body: Json) -> list[str]:
    """Moonshot (anomalyco/opencode#16318) and DeepSeek (its guide on thinking mode; an empty one does not do:
    NousResearch/hermes-agent#18263)."""
    wrong = list(_chat_order(body["messages"]))
    for i, message in enumerate(body["messages"]):
        if message["role"] == "developer":
            wrong.append(f"messages.{i}: unsupported role")
        if message.get("tool_calls") and not message.get("reasoning_content"):
            wrong.append(f"thinking is enabled but reasoning_content is missing at index {i}")
    wrong += [f"tools: unknown type {tool['type']}" for tool in body.get("tools") or () if tool["type"] != "function"]
    return wrong + tool_names([tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool])


def compatible_chat(body: Json) -> list[str]:
    """Any host whose templates know what OpenAI's first chat format had: functions, and the roles before `developer`.
    The templates of vLLM, SGLang and llama.cpp decode the arguments of each call."""
    wrong = list(_chat_order(body["messages"]))
    for i, message in enumerate(body["messages"]):
        if message["role"] == "developer":
            wrong.append(f"messages.{i}: Unexpected message role")
        for call in message.get("tool_calls") or ():
            wrong += _arguments((call.get("function") or {}).get("arguments"), f"messages.{i}")
    wrong += [f"tools: unknown type {tool['type']}" for tool in body.get("tools") or () if tool["type"] != "function"]
    return wrong + tool_names([tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool])


def strict_chat(body: Json) -> list[str]:
    """Groq and Cerebras refuse each field of a message that they do not know (janhq/jan#8136, ed-donner's
    llm_engineering#1130, karthink/gptel#774: `property 'reasoning' is unsupported`)."""
    known = {
        "system": {"role", "content", "name"},
        "user": {"role", "content", "name"},
        "assistant": {"role", "content", "name", "tool_calls", "function_call"},
        "tool": {"role", "content", "name", "tool_call_id"},
    }
    wrong = compatible_chat(body)
    for i, message in enumerate(body["messages"]):
        unknown = sorted(message.keys() - known.get(message["role"], set()))
        wrong += [f"messages.{i}: property {key!r} is unsupported" for key in unknown]
        for call in message.get("tool_calls") or ():
            if call.keys() - {"id", "type", "function"}:
                wrong.append(f"messages.{i}.tool_calls: property {sorted(call)} is unsupported")
    return wrong


def mistral(body: Json) -> list[str]:
    """Mistral's API: `Extra inputs are not permitted` (charmbracelet/crush#1590), `Unexpected role 'user' after role
    'tool'` (zed-industries/zed#37021), ids of nine letters and digits, `Assistant message must have either content or
    tool_calls`, `Expected last role User or Tool`."""
    wrong = compatible_chat(body)
    known = {
        "system": {"role", "content"},
        "user": {"role", "content"},
        "assistant": {"role", "content", "tool_calls", "prefix"},
        "tool": {"role", "content", "name", "tool_call_id"},
    }
    before = ""
    for i, message in enumerate(body["messages"]):
        role = message["role"]
        unknown = sorted(message.keys() - known.get(role, set()))
        wrong += [f"messages.{i}.{role}.{key}: Extra inputs are not permitted" for key in unknown]
        if before == "tool" and role not in ("tool", "assistant"):
            wrong.append(f"messages.{i}: Unexpected role {role!r} after role 'tool'")
        before = role
        ids = [call["id"] for call in message.get("tool_calls") or ()]
        ids += [message["tool_call_id"]] if "tool_call_id" in message else []
        wrong += [
            f"messages.{i}: Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9"
            for id in ids
            if not re.fullmatch("[a-zA-Z0-9]{9}", id)
        ]
    if before == "assistant":
        wrong.append("Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant")
    unknown = body.keys() - _MISTRAL_FIELDS
    return wrong + [f"{key}: Extra inputs are not permitted" for key in sorted(unknown)]


_MISTRAL_FIELDS = {
    *("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "response_format"),
    *("tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "parallel_tool_calls", "safe_prompt"),
    *("prediction", "prompt_mode", "metadata", "reasoning_effort"),
}


def zhipu(body: Json) -> list[str]:
    """Zhipu takes 6 to 128 characters of `user` (looplj/axonhub#1669)."""
    return compatible_chat(body) + _account(body, 6, 128)


def openrouter(body: Json) -> list[str]:
    """It knows the role `developer`, and takes reasoning back in its own fields."""
    wrong = list(_chat_order(body["messages"]))
    for i, message in enumerate(body["messages"]):
        for entry in message.get("reasoning_details") or ():
            if entry["type"] not in ("reasoning.text", "reasoning.summary", "reasoning.encrypted"):
                wrong.append(f"messages.{i}.reasoning_details: unknown type {entry['type']!r}")
            is_signed = entry["type"] == "reasoning.text" and entry.get("signature")
            if is_signed and not _is_claudes(entry["signature"], entry.get("text", "")):
                wrong.append(f"messages.{i}.reasoning_details: Invalid `signature` in `thinking` block")
    names = [tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool]
    return wrong + tool_names(names) + _account(body, 0, 128)


# --- OpenAI's Responses

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
    "web_search_call": "ws_",
    "image_generation_call": "ig_",
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
# OpenAI's own ids of stored items are at least this long after their prefix, and hexadecimal.
_STORED_ID = re.compile(r"(?:ig|ws)_[0-9a-f]{48,}")


def openai_responses(body: Json) -> list[str]:
    """With `store: false`, or a key of another organisation, no item lies with OpenAI."""
    wrong: list[str] = []
    waiting: dict[str, str] = {}
    called: set[str] = set()
    ids: set[str] = set()
    items = body["input"] if isinstance(body["input"], list) else []
    for i, item in enumerate(items):
        kind, id = item.get("type", "message"), item.get("id")
        if kind == "reasoning" and not str(item.get("encrypted_content") or "").startswith(OPENAI_SEALED):
            wrong.append(f"input.{i}: Item with id {id!r} not found")
        if kind in ("image_generation_call", "web_search_call") and not _STORED_ID.fullmatch(str(id)):
            wrong.append(f"input.{i}: Item with id {id!r} not found")
        if kind in _CALLS:
            fields = _CALLS[kind][1]
            wrong += [f"input.{i}.{name}: missing" for name, of in fields.items() if not isinstance(item.get(name), of)]
            call_id = item.get("call_id", "")
            if len(call_id) > 64 or not call_id:
                wrong.append(f"input.{i}.call_id: string too long, maximum 64")
            if call_id in called:
                wrong.append(f"input.{i}: Duplicate call_id {call_id!r}")
            if kind == "function_call" and "name" in item:
                wrong += _name_of_call(item["name"], f"input.{i}")
            called.add(call_id)
            waiting[call_id] = kind
        if kind in _OUTPUTS:
            call_id = item.get("call_id") or id
            if waiting.pop(call_id, None) != _OUTPUTS[kind]:
                wrong.append(f"input.{i}: No {_OUTPUTS[kind]} found for {kind} with call_id {call_id}")
        if kind == "message":
            wrong += _message_item(item, f"input.{i}")
        if id is not None and kind not in _OUTPUTS:
            if len(id) > 64:
                wrong.append(f"input.{i}.id: string too long, maximum 64")
            if not id.startswith(_ITEM_IDS.get(kind, "")):
                wrong.append(f"input.{i}.id: Expected an ID that begins with {_ITEM_IDS[kind]!r}")
            if id in ids:
                wrong.append(f"input.{i}: Duplicate item found with id {id}")
            ids.add(id)
    if waiting:
        wrong.append(f"No tool output found for {sorted(waiting)}")
    if (body.get("max_output_tokens") or 16) < 16:
        wrong.append("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16")
    for tool in body.get("tools") or ():
        if tool["type"] == "function":
            wrong += _gpt_function(tool)
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None and effort not in _GPT_EFFORTS:
        wrong.append(f"reasoning.effort: unsupported value {effort!r}")
    names = [tool["name"] for tool in body.get("tools") or () if tool["type"] in ("function", "custom")]
    return wrong + tool_names(names) + _account(body)


def _message_item(item: Json, path: str) -> Iterator[str]:
    content = item.get("content")
    if content is None:
        yield f"{path}.content: missing"
    takes = (
        ("output_text", "refusal") if item.get("role") == "assistant" else ("input_text", "input_image", "input_file")
    )
    for part in content if isinstance(content, list) else ():
        if part["type"] not in takes:
            yield f"{path}: Invalid value: {part['type']!r}. Supported values are: {takes}"


def compatible_responses(body: Json) -> list[str]:
    """A host of the format that is not OpenAI: functions alone, and calls with their outputs."""
    wrong: list[str] = []
    waiting: set[str] = set()
    items = body["input"] if isinstance(body["input"], list) else []
    for i, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            if item["call_id"] in waiting:
                wrong.append(f"input.{i}: Duplicate call_id {item['call_id']!r}")
            waiting.add(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in waiting:
                wrong.append(f"input.{i}: No function_call found")
            waiting.discard(item["call_id"])
        if str(item.get("encrypted_content") or "").startswith("edge-"):
            wrong.append(f"input.{i}: encrypted content of nobody")
    if waiting:
        wrong.append(f"No tool output found for {sorted(waiting)}")
    names = [tool["name"] for tool in body.get("tools") or () if tool["type"] == "function"]
    return wrong + tool_names(names)


# --- Gemini

_GEMINI_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_GEMINI_PARTS = {"text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode"} | {
    "codeExecutionResult"
}


def gemini_3(body: Json) -> list[str]:
    return gemini(body, third=True)


def gemini_2_5(body: Json) -> list[str]:
    return gemini(body, third=False)


def gemini(body: Json, *, third: bool) -> list[str]:
    wrong: list[str] = []
    names: list[str] = []
    before, called = "", False
    if not body["contents"]:
        wrong.append("contents is not specified")
    for i, turn in enumerate(body["contents"]):
        role, parts = turn.get("role", "user"), turn["parts"]
        if role not in ("user", "model"):
            wrong.append(f"contents[{i}].role: Please use a valid role: user, model")
        if not parts:
            wrong.append(f"contents[{i}].parts: must not be empty")
        has_calls = any("functionCall" in part for part in parts)
        has_responses = any("functionResponse" in part for part in parts)
        if has_calls and before != "user":
            wrong.append(
                f"contents[{i}]: Please ensure that function call turn comes immediately after a user turn or after a "
                "function response turn"
            )
        if has_responses and not called:
            wrong.append(
                f"contents[{i}]: Please ensure that function response turn comes immediately after a function call turn"
            )
        if called and not has_responses:
            wrong.append(f"contents[{i}]: function call turn without its response turn")
        calls = 0
        for j, part in enumerate(parts):
            path = f"contents[{i}].parts[{j}]"
            wrong += _gemini_part(part, path)
            signature = part.get("thoughtSignature")
            if "functionCall" in part:
                if third and calls == 0 and signature is None:
                    wrong.append(f"{path}: Function call is missing a thought_signature")
                calls += 1
                names.append(part["functionCall"]["name"])
            if "functionResponse" in part:
                if part["functionResponse"]["name"] not in names:
                    wrong.append(f"{path}: function response without its function call")
                else:
                    names.remove(part["functionResponse"]["name"])
        if has_responses and names:
            wrong.append("the number of function response parts must equal that of the function call parts")
            names = []
        before, called = role, has_calls
    if names:
        wrong.append("the number of function response parts must equal that of the function call parts")
    elif before == "model":
        # crewAIInc/crewAI#6973, decolua/9router#3055
        wrong.append("Requests ending with a model turn are not supported")
    declared = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]
    wrong += _gemini_names([each["name"] for each in declared])
    return wrong + list(_gemini_thinking(body, third=third))


def _gemini_part(part: Json, path: str) -> Iterator[str]:
    kinds = part.keys() & _GEMINI_PARTS
    if len(kinds) != 1:
        yield f"{path}.data: required oneof field 'data' must have one initialized field"
    signature = part.get("thoughtSignature")
    if signature is not None and not _is_googles(signature):
        yield f"{path}: Corrupted thought signature"
    match part:
        case {"functionCall": call}:
            if not isinstance(call.get("args", {}), dict):
                yield f"{path}.function_call.args: must be a Struct"
            yield from _gemini_names([call["name"]])
        case {"functionResponse": response}:
            if not isinstance(response.get("response"), dict):
                yield f"{path}.function_response.response: must be a Struct"
        case {"inlineData": blob}:
            if not _is_base64(blob.get("data")) or not blob.get("mimeType"):
                yield f"{path}.inline_data: Base64 decoding failed"


def _gemini_names(names: Iterable[str]) -> list[str]:
    listed = list(names)
    wrong = [f"Invalid function name {name!r}" for name in listed if not _GEMINI_NAME.fullmatch(name)]
    return wrong + (["Duplicate function declaration found"] if len(set(listed)) < len(listed) else [])


def _gemini_thinking(body: Json, *, third: bool) -> Iterator[str]:
    config = (body.get("generationConfig") or {}).get("thinkingConfig") or {}
    if "thinkingLevel" in config and not third:
        yield "thinking_level is not supported by this model"
    if "thinkingLevel" in config and "thinkingBudget" in config:
        yield "You can only set only one of thinking budget and thinking level"


def _is_googles(signature: str) -> bool:
    if signature in SKIPS_VALIDATION or signature.startswith((GOOGLE_SIGNED, LANGCHAIN_SIGNED)):
        return True
    try:
        return base64.b64decode(signature, validate=True).decode() in SKIPS_VALIDATION
    except ValueError:
        return False


# --- Bedrock's Converse


def bedrock_claude(body: Json) -> list[str]:
    """Converse for a Claude: the service model's patterns, and what Claude itself checks."""
    return bedrock(body, "claude's")


def bedrock_nova(body: Json) -> list[str]:
    """Converse for Nova, which signs no reasoning."""
    return bedrock(body, "unsigned")


def bedrock_deepseek(body: Json) -> list[str]:
    """aws-samples/bedrock-chat#851, langchain-ai/langchain-aws#401: it takes no reasoning."""
    return bedrock(body, "none")


def bedrock(body: Json, reasoning: str) -> list[str]:
    claude = reasoning == "claude's"
    wrong: list[str] = []
    waiting: set[str] = set()
    before = ""
    has_tools = False
    if not body["messages"] or body["messages"][0]["role"] != "user":
        wrong.append("A conversation must start with a user message")
    for i, turn in enumerate(body["messages"]):
        if turn["role"] == before:
            wrong.append(f"messages.{i}: roles must alternate")
        before, used = turn["role"], set[str]()
        if not turn["content"]:
            wrong.append(f"The content field in the Message object at messages.{i} is empty")
        listed = [block["toolResult"]["toolUseId"] for block in turn["content"] if "toolResult" in block]
        if len(listed) > len(set(listed)):
            wrong.append(f"messages.{i}: each toolUse must have a single toolResult")
        if turn["role"] == "user":
            if waiting != set(listed):
                wrong.append(f"messages.{i}: toolResult blocks do not match the toolUse blocks of the previous turn")
            waiting = set()
        elif claude and "reasoningContent" in turn["content"][-1]:
            wrong.append(f"messages.{i}: The final block in an assistant message cannot be `thinking`")
        for j, block in enumerate(turn["content"]):
            path = f"messages.{i}.content.{j}"
            wrong += _converse_block(block, turn["role"], path, reasoning)
            has_tools = has_tools or "toolUse" in block or "toolResult" in block
            if "toolUse" in block:
                if block["toolUse"]["toolUseId"] in used:
                    wrong.append(f"{path}: `tool_use` ids must be unique")
                used.add(block["toolUse"]["toolUseId"])
                waiting.add(block["toolUse"]["toolUseId"])
    if waiting:
        wrong.append("toolUse blocks without toolResult blocks")
    tools = (body.get("toolConfig") or {}).get("tools") or ()
    if has_tools and "toolConfig" not in body:
        wrong.append("The toolConfig field must be defined when using toolUse and toolResult content blocks")
    for tool in tools:
        if "toolSpec" in tool:
            spec = tool["toolSpec"]
            wrong += _function_schema(spec["inputSchema"]["json"], f"toolConfig.tools.{spec['name']}")
            if spec.get("description") == "":
                wrong.append(f"toolConfig.tools.{spec['name']}.description: minimum length 1")
    return wrong + tool_names([tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool])


def _converse_block(block: Json, role: str, path: str, reasoning: str) -> Iterator[str]:
    if len(block) != 1:
        yield f"{path}: a ContentBlock has exactly one member"
    match block:
        case {"text": text} if not text.strip():
            yield f"The text field in the ContentBlock object at {path} is blank"
        case {"toolUse": {"toolUseId": id, **more}} | {"toolResult": {"toolUseId": id, **more}}:
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", id):
                yield f"{path}: toolUseId failed to satisfy constraint: [a-zA-Z0-9_-]{{1,64}}"
            if "toolUse" in block:
                yield from _name_of_call(more.get("name"), path)
            for inner in more.get("content") or ():
                yield from _converse_block(inner, role, f"{path}.toolResult", reasoning)
        case {"reasoningContent": {"reasoningText": {**text}}}:
            if reasoning == "none":
                yield f"{path}: User messages cannot contain reasoning content"
            elif reasoning == "unsigned":
                if text.get("signature"):
                    yield f"{path}: the signature of another model"
            elif not _is_claudes(text.get("signature"), text.get("text", "")):
                yield f"{path}: Invalid `signature` in `thinking` block"
        case {"reasoningContent": {"redactedContent": data}}:
            if reasoning != "claude's" or not base64.b64decode(data).decode("latin-1").startswith(CLAUDE_SIGNED):
                yield f"{path}: Invalid `data` in `redacted_thinking` block"
        case {"image": _} if role == "assistant":
            yield f"{path}: image blocks are not permitted in assistant turns"


# --- by provider

_OF_DIALECT: dict[str, Callable[[Json], list[str]]] = {
    "anthropic_messages": anthropic,
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "gemini_generate": gemini_3,
    "bedrock_converse": bedrock_claude,
}


def of(provider: str, dialect: str, body: bytes) -> list[str]:
    if provider in ("kimi", "deepseek"):
        return thinking_chat(json.loads(body))
    return _OF_DIALECT[dialect](json.loads(body))
