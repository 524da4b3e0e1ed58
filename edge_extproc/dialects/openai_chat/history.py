"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ...model.content import Json
from ...model.host import HostProfile
from ..cache_keys import CACHE_KEY, accepted_key
from ..history import array
from ..reading import why_no_call
from ..turns import object_text
from .content import FLAT_THOUGHT
from .fields import Object
from .models import LONGEST_CALL_ID, MISTRALS, RESULT_SEEN, call_id, is_thinking, with_reasoning

USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')
_ASSISTANT = re.compile(rb'"assistant"')
# The fields of a message that some hosts refuse: thinking and signatures of other providers, calls, and no content.
OF_HISTORY = re.compile(
    rb'"(?:thinking_blocks|thought_signature|reasoning_content|reasoning_details|reasoning|images|tool_calls|tool_call_id'
    rb'|thinking|refusal|annotations|audio|function_call)"|"content"\s*:\s*(?:null|\[\s*\])'
    rb'|"role"\s*:\s*"assistant"\s*(?:,\s*"name"\s*:\s*"[^"]*"\s*)?\}'
)
# The fields of a message that every host takes.
_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "prefix"})
_CONTENT = ("content", "tool_calls", "refusal", "function_call")


def mended_history(raw: bytes, model: str, host: HostProfile) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The messages as this model and host accept them, and the names of what was removed or rewritten. Unchanged
    messages keep their bytes."""
    try:
        members = _members.decode(raw)
    except UNREADABLE:
        raise why_no_call(raw) from None
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    if host.user_limit is not None or host.user_least:
        for name in ("user", "safety_identifier"):
            user = msgspec.json.decode(members[name]) if name in members else None
            if isinstance(user, str) and not host.takes_user(user):
                changes[name] = None
                dropped.append(name)
    key = msgspec.json.decode(members[CACHE_KEY]) if CACHE_KEY in members else None
    if (accepted := accepted_key(key)) != key:
        changes[CACHE_KEY] = encode(accepted)
        dropped.append(CACHE_KEY)
    try:
        rows = _rows.decode(members["messages"])
    except (KeyError, *UNREADABLE):
        return changes, tuple(dropped)  # the host reports the error
    substituted = host.thoughts_required and _CALLS.search(raw) is not None and is_thinking(_thinking(members))
    changed = False
    is_bridged = MISTRALS.search(model) is not None
    messages: list[bytes] = []
    before: Json = None
    for number, row in enumerate(rows):
        if is_bridged:
            role = _role_of(row)
            if before == "tool" and role not in ("tool", "assistant"):
                messages.append(encode(dict(RESULT_SEEN)))
                changed = True
            before = role
        looks = OF_HISTORY.search(row) or (substituted and _ASSISTANT.search(row))
        message = msgspec.json.decode(row) if looks else None
        omitted: list[str] = []
        given = False
        if isinstance(message, dict):
            if message.get("content") in (None, []) and _is_empty(message):
                changed = True
                dropped.append(f"messages[{number}]")
                continue
            fields = dict(message)
            omitted = mend(message, f"messages[{number}]", model, host)
            given = substituted and with_reasoning(message)
            if omitted and _is_empty(message):
                changed = True
                dropped += omitted
                continue
            given = given or message != fields
        messages.append(encode(message) if omitted or given else bytes(row))
        changed = changed or bool(omitted) or given
        dropped += omitted
    if changed:
        changes["messages"] = array(messages)
    return changes, tuple(sorted(dropped))


class _Role(msgspec.Struct):
    role: Any = None


_role = msgspec.json.Decoder(_Role)


def _role_of(row: msgspec.Raw) -> Json:
    try:
        return _role.decode(row).role
    except UNREADABLE:  # the host reports the error
        return None


def _thinking(members: dict[str, msgspec.Raw]) -> Object:
    return {name: msgspec.json.decode(members[name]) for name in ("thinking", "reasoning_effort") if name in members}


def mend(message: Object, path: str, model: str, host: HostProfile) -> list[str]:
    """Removes from a message: fields that our replies added for Claude and Gemini, thinking that the host refuses, and
    refused ids and arguments of calls. Hosts of this API refuse unknown fields of a message, and a conversation may
    continue with another model."""
    omitted: list[str] = []
    is_assistants = message.get("role") == "assistant"
    fields = [] if "claude" in model else ["thinking_blocks"]
    if host.thoughts == "refused" and is_assistants:
        fields += [*FLAT_THOUGHT, "reasoning_details", "images"]
    if host.strict_messages:
        refusal = message.get("refusal")
        if is_assistants and isinstance(refusal, str) and refusal and message.get("content") is None:
            message["content"] = message.pop("refusal")
        fields += sorted(message.keys() - _FIELDS - set(fields))
    omitted += [f"{path}.{name}" for name in fields if _is_lost(message.pop(name, None))]
    if is_assistants and host.thoughts != "as they came" and MISTRALS.search(model) is None:
        omitted += _without_thinking(message, path)
    calls = message.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        where = f"{path}.tool_calls[{at}]"
        match call.get("extra_content"):
            case {"google": {"thought_signature": _}} if "gemini" not in model:
                del call["extra_content"]
                omitted.append(f"{where}.extra_content")
        function = call.get("function")
        text = function.get("arguments") if isinstance(function, dict) and not host.any_arguments else None
        if isinstance(text, str) and (decodable := object_text(text)) != text:
            call["function"] = {**call["function"], "arguments": decodable}
            omitted.append(f"{where}.function.arguments")
        if isinstance(id := call.get("id"), str) and (legal := _raw_call_id(id, model, host)) != id:
            call["id"] = legal
            omitted.append(f"{where}.id")
    if isinstance(id := message.get("tool_call_id"), str) and (legal := _raw_call_id(id, model, host)) != id:
        message["tool_call_id"] = legal
        omitted.append(f"{path}.tool_call_id")
    return omitted


def _is_empty(message: Object) -> bool:
    """Whether a message of the assistant has no content: a reply without content, or with thinking alone."""
    is_assistants = message.get("role") == "assistant"
    return is_assistants and not any(message.get(name) for name in _CONTENT)


def _is_lost(value: Json) -> bool:
    return value is not None and value != []


def _without_thinking(message: Object, path: str) -> list[str]:
    """Removes the parts with Mistral's thinking from the content, for hosts that are known to have another field."""
    content = message.get("content")
    if not isinstance(content, list):
        return []
    thinking = [i for i, part in enumerate(content) if isinstance(part, dict) and part.get("type") == "thinking"]
    if thinking:
        rest = [part for i, part in enumerate(content) if i not in thinking]
        message["content"] = rest or (None if message.get("tool_calls") else "")
    return [f"{path}.content[{i}]" for i in thinking]


def _raw_call_id(id: str, model: str, host: HostProfile) -> str:
    """The caller's id of a call, in the form that this model's host accepts."""
    if MISTRALS.search(model) or (host.strict_ids and len(id) > LONGEST_CALL_ID):
        return call_id(id, model)
    return id
